/** The queue as a test sees it from outside: what is left in it, and what came out of it, by DID. */
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { retryKey } from '@sluice/streams/backfill-queue.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { listDeadLetters } from '@sluice/streams/testing/list-letters.ts'
import type { IndexModel } from './index-model.ts'

export const QUEUE = 'repo_backfill'
export const OUTPUT = 'firehose_backfill'

export interface Later {
  /** The class of the entry's last failure; absent when it never failed. */
  failure: string | undefined
  dueMs: number
}

export async function enqueue(redis: Redis, entries: readonly BackfillEvent[]): Promise<void> {
  await Promise.all(entries.map((entry) => redis.xAdd(QUEUE, '*', { repo: JSON.stringify(entry) })))
}

/** Moves the appended events from Redis to the model, as an indexer would. Returns how many events those were. */
export async function drainTo(redis: Redis, index: IndexModel): Promise<number> {
  const entries = (await redis.xRange(OUTPUT, '-', '+', { COUNT: 5_000 })) ?? []
  for (const { message } of entries) index.apply(streamEventCodec.decode(message))
  const ids = entries.map(({ id }) => id)
  if (ids.length > 0) await redis.xDel(OUTPUT, ids)
  return ids.length
}

/** DID → the entry that waits for a later try, or is being tried now. */
export async function laterOf(redis: Redis): Promise<Map<string, Later>> {
  const later = new Map<string, Later>()
  for (const { message } of (await redis.xRange(QUEUE, '-', '+')) ?? []) {
    const { did, failure } = JSON.parse(message.repo!) as BackfillEvent
    later.set(did, { failure, dueMs: Date.now() })
  }
  for (const { value, score } of await redis.zRangeWithScores(retryKey(QUEUE), 0, -1)) {
    const { did, failure } = JSON.parse(value) as BackfillEvent
    later.set(did, { failure, dueMs: score })
  }
  return later
}

/** DID → the reason why its repository was given up. */
export async function deadOf(redis: Redis): Promise<Map<string, string>> {
  const letters = await listDeadLetters(redis, QUEUE, 100_000)
  return new Map(letters.map(({ fields, reason }) => [(JSON.parse(fields.repo!) as BackfillEvent).did, reason]))
}
