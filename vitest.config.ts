import { defineConfig } from 'vitest/config'

/** The suffix of a file says what it needs; what it needs is started once for the run (`packages/sandbox/global-*.ts`). */
const POSTGRES = 'packages/sandbox/global-postgres.ts'
const REDIS = 'packages/sandbox/global-redis.ts'

/** What is waited for may take its time on a busy machine: no test asserts a time. */
const common = { setupFiles: ['packages/sandbox/setup-file.ts'], expect: { poll: { timeout: 30_000, interval: 50 } } }

/**
 * Tests with processes of their own are tried twice: on two busy cores one may be starved for longer than it waits. `npm test` names those that needed
 * it. Never the database tests: what fails there once is a race.
 */
const WITH_PROCESSES = { retry: 1 }

const anyTest = '{packages,services,scripts}/**/*'

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: [`${anyTest}.test.ts`],
          exclude: ['**/node_modules/**', '**/*.{redis,pg,e2e}.test.ts'],
          testTimeout: 30_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...common,
          ...WITH_PROCESSES,
          name: 'redis',
          include: [`${anyTest}.redis.test.ts`],
          globalSetup: [REDIS],
          testTimeout: 60_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...common,
          name: 'pg',
          include: [`${anyTest}.pg.test.ts`],
          globalSetup: [POSTGRES],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          ...common,
          ...WITH_PROCESSES,
          name: 'e2e',
          include: [`${anyTest}.e2e.test.ts`],
          globalSetup: [POSTGRES, REDIS],
          testTimeout: 300_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
})
