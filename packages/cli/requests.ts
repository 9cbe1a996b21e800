/** Asks for repositories to be fetched anew, as an operator: they go before everything else, and what they no longer hold is removed. */
import { backfillEventCodec } from '@sluice/events/codec.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { priorityStream } from '@sluice/streams/backfill-queue.ts'
import { classifyRedisError, type Redis } from '@sluice/streams/connection.ts'

export interface Request {
  did: string
  /** Where it was listed, without scheme; empty: the backfiller asks the account's PDS. */
  host?: string
  rev?: string
}

const PIPELINED = 1_000

/** Queues a fetch of each repository. Safe to repeat: the index ends the same. Returns how many were queued. @throws TransientError */
export async function requestRepos(
  redis: Redis,
  backfillStream: string,
  requests: Iterable<Request>,
  { priority = true }: { priority?: boolean } = {},
): Promise<number> {
  const stream = priority ? priorityStream(backfillStream) : backfillStream
  let queued = 0
  for (const chunk of chunks(requests, PIPELINED)) {
    try {
      await Promise.all(
        chunk.map(async ({ did, host = '', rev = '' }) => {
          const event: BackfillEvent = { did, host, rev, reason: 'requested' }
          return redis.xAdd(stream, '*', backfillEventCodec.encode(event))
        }),
      )
    } catch (error) {
      throw classifyRedisError(error)
    }
    queued += chunk.length
  }
  return queued
}

export function* chunks<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let chunk: T[] = []
  for (const item of items) {
    chunk.push(item)
    if (chunk.length === size) {
      yield chunk
      chunk = []
    }
  }
  if (chunk.length > 0) yield chunk
}
