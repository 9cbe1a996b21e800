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

/**
 * The official AppView runs inside the tests of the oracle, and observes none of the answers to what it asks of a new connection (`pool.on('connect')` in `db.js` of
 * `@atproto/bsky`): when it is closed, one may be rejected that nobody waits for. Of a statement of ours that nobody waits for, its own tests would tell.
 */
function isOfOfficialAppView(error: { message: string; VITEST_TEST_PATH?: unknown }): boolean {
  const { message, VITEST_TEST_PATH: path } = error
  return message === 'Connection terminated' && typeof path === 'string' && path.includes('/packages/indexing/oracle/')
}

const anyTest = '{packages,services,scripts}/**/*'

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    onUnhandledError: (error) => (isOfOfficialAppView(error) ? false : undefined),
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
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
})
