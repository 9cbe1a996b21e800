import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * The suffix of a file says what it needs; what it needs is started once for the run (`packages/sandbox/global-*.ts`).
 */
const POSTGRES = 'packages/sandbox/global-postgres.ts'
const REDIS = 'packages/sandbox/global-redis.ts'

/** What is waited for may take its time on a busy machine: no test asserts a time. */
const common = { setupFiles: ['packages/sandbox/setup-file.ts'], expect: { poll: { timeout: 30_000, interval: 50 } } }

/**
 * Tests with processes of their own are tried twice: on two busy cores one may be starved for longer than it waits.
 * `npm test` names those that needed it. Never the database tests: what fails there once is a race.
 */
const WITH_PROCESSES = { retry: 1 }

/**
 * How many files run at once. Tests with processes of their own wait for most of their time: for a daemon to start, a
 * host to be silent, a store to come back.
 */
const WORKERS = { computing: availableParallelism(), waiting: Math.min(2 * availableParallelism(), 8) }

/** The files that take longest. Begun last, as small files are, they would run alone at the end. */
const LONGEST =
  /\/(network-soak|chaos|known-failures|start|live-table|crash|unconfirmed|guards|indexer)\.e2e\.test\.ts$/

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLongest = ({ moduleId }: TestSpecification): boolean => LONGEST.test(moduleId)
    const sorted = await super.sort(files)
    return [...sorted.filter(isLongest), ...sorted.filter((file) => !isLongest(file))]
  }
}

/**
 * The official AppView runs inside the tests of the oracle, and observes none of the answers to what it asks of a new
 * connection (`pool.on('connect')` in `db.js` of `@atproto/bsky`): when it is closed, one may be rejected that nobody
 * waits for. Of a statement of ours that nobody waits for, its own tests would tell.
 */
function isOfOfficialAppView(error: { message: string; VITEST_TEST_PATH?: unknown }): boolean {
  const { message, VITEST_TEST_PATH: path } = error
  return message === 'Connection terminated' && typeof path === 'string' && path.includes('/packages/indexing/oracle/')
}

const anyTest = '{packages,services,scripts}/**/*'

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: WORKERS.computing,
    sequence: { sequencer: LongestFirst },
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
          maxWorkers: WORKERS.waiting,
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
          testTimeout: 300_000,
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
          maxWorkers: WORKERS.waiting,
          testTimeout: 300_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
})
