/** The bulk path: the same events into an empty index without secondary indexes, and all that makes the index whole afterwards. */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import type { EntryFields } from '@sluice/events/codec.ts'
import { beginBulkLoad } from '@sluice/indexing/bulk/begin.ts'
import { finishBulkLoad } from '@sluice/indexing/bulk/finish.ts'
import { SCHEMA } from '../template.ts'
import type { Bed, Costs } from './bed.ts'
import { measureOurs } from './ours.ts'

export interface BulkCosts {
  load: Costs
  finish: Costs
  /** Seconds by step of the end. */
  steps: Record<string, number>
}

export async function measureBulk(
  bed: Bed,
  database: { name: string; url: string },
  events: readonly EntryFields[],
  consumers: number,
): Promise<BulkCosts> {
  await using db = new DatabasePool({ url: database.url, schema: SCHEMA, size: 4, role: 'bench', statementMs: 0 })
  const set = new CollectionSet(collections)
  await beginBulkLoad(db, set)
  const load = await measureOurs(bed, database, events, { consumers })
  const steps: Record<string, number> = {}
  let last = performance.now()
  let current = ''
  const onProgress = ({ step }: { step: string }): void => {
    const now = performance.now()
    if (current !== '') steps[current] = (steps[current] ?? 0) + (now - last) / 1000
    ;[current, last] = [step, now]
  }
  const finish = await bed.costs(database.name, async () => {
    await finishBulkLoad(db, set, { signal: new AbortController().signal, onProgress })
    onProgress({ step: '' })
  })
  return { load, finish, steps }
}
