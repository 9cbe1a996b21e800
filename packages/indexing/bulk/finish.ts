/**
 * Ends a bulk load: builds the indexes, then makes up for what loading left out, while batches go on.
 *
 * Steps, each resumed where it stopped:
 * 1. **vacuum**: afterwards a count can read the indexes alone, and need not look up each row;
 * 2. **indexes**, built concurrently; unique keys get plain indexes first;
 * 3. **switch**: from here on batches do everything, and tolerate duplicates among the rows;
 * 4. **duplicates**;
 * 5. **unique-indexes**;
 * 6. **counters**;
 * 7. **posts**: verdicts, gates, and who is notified, for posts that have any of these (`posts.ts`).
 *
 * A step that runs twice has the same result as once: each ends in what the rows say.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { build, firstRowOf, rowsOf } from '@sluice/database/typed.ts'
import { crashPoint } from '@sluice/runtime/crash-points.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { aggregatesOf, recountStep } from '../recount.ts'
import { tellApart } from './duplicates.ts'
import { buildIndexes, buildUniqueIndexes, vacuumTables } from './indexes.ts'
import { bulkPhase, FINISHER_UNLOCK, stopBatches, TRY_FINISHER_LOCK, type BulkPhase } from './phase.ts'
import { isDone, positionOf, savePosition, SINCE } from './position.ts'
import { deriveAll } from './posts.ts'
import type { OnProgress, StepContext } from './step.ts'

const STEPS: readonly [name: string, run: (finish: StepContext) => Promise<void>][] = [
  ['vacuum', vacuumTables],
  ['indexes', buildIndexes],
  ['switch', switchPhase],
  ['duplicates', tellApart],
  ['unique-indexes', buildUniqueIndexes],
  ['counters', countAll],
  ['posts', deriveAll],
]

export interface FinishOptions {
  signal: AbortSignal
  onProgress?: OnProgress
  /** How many parts of a step run side by side: tables whose indexes are built, counters, posts. Default 2. */
  jobs?: number
}

/** One connection holds the finisher's lock, one saves how far the steps have come. */
const CONNECTIONS_BESIDE = 2

/**
 * How many connections of its pool a finish with that many jobs needs. The steps with data-path statements open others:
 * duplicates one, counters and posts as many as there are jobs.
 */
export function finishConnections(jobs: number): number {
  return jobs + CONNECTIONS_BESIDE
}

/**
 * Does the steps that are left. `db` must have no statement timeout (an index may take hours), and
 * `finishConnections(jobs)` connections.
 * @throws RefusedError `bulk-none` or, when another process is finishing this load, `bulk-taken`; TransientError: call
 * it again
 */
export async function finishBulkLoad(
  db: DatabasePool,
  collections: CollectionSet,
  { signal, onProgress = () => {}, jobs = 2 }: FinishOptions,
): Promise<void> {
  const holder = await db.acquire(signal)
  try {
    const { rows } = await holder.query<{ got: boolean }>(TRY_FINISHER_LOCK)
    if (!rows[0]!.got) throw new RefusedError('bulk-taken', 'this bulk load is being finished by another process')
    if (!(await bulkPhase(db))) throw new RefusedError('bulk-none', 'no bulk load is under way in this database')
    for (const [name, run] of STEPS) {
      signal.throwIfAborted()
      if (await isDone(db, name)) continue
      onProgress({ step: name, at: '' })
      await run({ db, collections, signal, onProgress, jobs })
      await savePosition(db, name, '', true)
      crashPoint('bulk.step')
    }
    await transaction(db, { doing: 'ending a bulk load' }, async (tx) => {
      await tx.query('delete from bulk_step')
      await tx.query('delete from bulk_index')
      await tx.query('delete from bulk_load')
    })
  } finally {
    // If the unlock fails, the lock ends with its session.
    await holder.query(FINISHER_UNLOCK).catch(() => {})
    holder.release(true)
  }
}

export interface BulkStatus {
  phase?: BulkPhase
  startedAt?: string
  /** How many indexes the load dropped, including those that are built again. */
  indexes: number
  steps: { name: string; position: string; done: boolean }[]
}

export async function bulkStatus(db: DatabasePool): Promise<BulkStatus> {
  const [load, indexes, steps] = await Promise.all([
    firstRowOf(db, build.selectFrom('bulk_load').select(['phase', 'startedAt'])),
    firstRowOf(
      db,
      build.selectFrom('bulk_index').select(({ fn }) => fn.countAll<number>().as('n')),
    ),
    rowsOf(
      db,
      build.selectFrom('bulk_step').select(['name', 'position', 'done']).where('name', '<>', SINCE).orderBy('name'),
    ),
  ])
  return { ...load, indexes: indexes!.n, steps }
}

async function switchPhase({ db }: StepContext): Promise<void> {
  await transaction(db, { doing: 'switching a bulk load to its end' }, async (tx) => {
    await stopBatches(tx)
    await tx.query(`update bulk_load set phase = 'finishing'`)
  })
}

const RECOUNT_KEYS = 2_000

async function countAll({ db, collections, signal, onProgress, jobs }: StepContext): Promise<void> {
  await using byKey = db.alike({ byKey: true, size: jobs })
  for (const aggregate of aggregatesOf(collections)) {
    const name = `counters ${aggregate.table}`
    let after = await positionOf(db, name)
    while (after !== undefined) {
      signal.throwIfAborted()
      const step = await recountStep(db, aggregate, { after, keys: RECOUNT_KEYS * jobs, jobs, byKey })
      after = step.after
      await savePosition(db, name, after ?? '', after === undefined)
      onProgress({ step: 'counters', at: `${aggregate.table} ${after ?? 'done'}` })
    }
  }
}
