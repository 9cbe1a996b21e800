/**
 * Measures the bulk path: loads a network's repositories, in the order of a first load, into an empty index without secondary indexes, and then runs all steps that complete the
 * index. For comparison it loads the same entries by the live path.
 */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { beginBulkLoad } from '@sluice/indexing/bulk/begin.ts'
import { finishBulkLoad, finishConnections } from '@sluice/indexing/bulk/finish.ts'
import { SCHEMA } from '../template.ts'
import type { Bed, Costs } from './bed.ts'
import type { Exports } from './exports.ts'
import { measureOurs } from './ours.ts'

export interface BulkCosts {
  /** Entries of the stream. */
  entries: number
  live: Costs
  load: Costs
  finish: Costs
  /** The size of the whole index at the end. */
  megabytes: number
  /** The seconds of each step of `bulk finish`. */
  steps: Record<string, number>
}

/** As many as there are cores here. */
const JOBS = 2

/** Loads with one indexer. */
export async function measureBulk(bed: Bed, network: Exports): Promise<BulkCosts> {
  let entries = 0
  function* counted() {
    entries = 0
    for (const chunk of network.entries()) {
      entries += chunk.length
      yield chunk
    }
  }
  const other = await bed.database()
  const live = await measureOurs(bed, other, counted())
  await bed.drop(other)
  const database = await bed.database()
  await using db = new DatabasePool({
    url: database.url,
    schema: SCHEMA,
    size: finishConnections(JOBS),
    role: 'bench',
    statementMs: 0,
  })
  const set = new CollectionSet(collections)
  await beginBulkLoad(db, set)
  const load = await measureOurs(bed, database, counted())
  const steps: Record<string, number> = {}
  let last = performance.now()
  let current = ''
  const onProgress = ({ step }: { step: string }): void => {
    const now = performance.now()
    if (current !== '') steps[current] = (steps[current] ?? 0) + (now - last) / 1000
    ;[current, last] = [step, now]
  }
  const finish = await bed.costs(database.name, async () => {
    await finishBulkLoad(db, set, { signal: new AbortController().signal, onProgress, jobs: JOBS })
    onProgress({ step: '' })
  })
  const [size] = await bed.postgres.query<{ bytes: string }>(`select pg_database_size($1) as bytes`, [database.name])
  return { entries, live, load, finish, megabytes: Math.round(Number(size!.bytes) / 1024 ** 2), steps }
}
