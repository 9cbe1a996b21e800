/**
 * How far behind the queue of repositories is, for /ready: the age of the oldest entry that is not acked, in the
 * worse of its two streams. Redis is asked, and not this process, so a backfiller that is stuck or dead cannot hide it.
 * What waits in the schedule of later tries does not count: it is not due.
 */
import { sleep } from '@sluice/runtime/backoff.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'
import { classifyRedisError, redisTimeMs, type Redis } from '@sluice/streams/connection.ts'
import { streamState } from '@sluice/streams/stream-state.ts'

export interface QueueLagOptions {
  redis: Redis
  readiness: Readiness
  streams: readonly string[]
  /** Time between two looks at Redis; a look costs about ten small commands for each stream. */
  everyMs?: number
}

/**
 * Looks at the streams until the signal. While Redis is away the last figures stay; the consumers report that it is
 * away.
 * @throws FatalError when Redis refuses our user a command
 */
export async function watchQueue(options: QueueLagOptions, signal: AbortSignal): Promise<void> {
  const { everyMs = 10_000 } = options
  while (!signal.aborted) {
    await look(options)
    await sleep(everyMs, signal).catch(() => undefined)
  }
}

async function look({ redis, readiness, streams }: QueueLagOptions): Promise<void> {
  try {
    const now = await redisTimeMs(redis)
    for (const stream of streams) {
      const { error, lagSeconds } = await streamState(stream, { redis, now, leases: [], reasons: false })
      if (error === undefined) readiness.setLag(stream, lagSeconds)
    }
  } catch (error) {
    const cause = classifyRedisError(error)
    if (!(cause instanceof TransientError)) throw cause
  }
}
