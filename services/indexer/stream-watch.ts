/**
 * How far behind the streams are, for /ready and /metrics. Every indexer reports the same figures because it asks
 * Redis, not itself. So an indexer that is stuck or dead cannot hide the lag.
 */
import { sleep } from '@sluice/runtime/backoff.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { classifyRedisError, redisTimeMs, type Redis } from '@sluice/streams/connection.ts'
import { streamState } from '@sluice/streams/stream-state.ts'

export interface StreamWatchOptions {
  redis: Redis
  metrics: Metrics
  readiness: Readiness
  streams: readonly string[]
  /** Time between two looks at Redis; a look costs about ten small commands for each stream. */
  everyMs?: number
}

/**
 * Looks at the streams until the signal. While Redis is away or loading, the last figures stay; the consumers report
 * that it is away. If Redis refuses our user a command, this service fails: figures that are not known must not read as
 * 0.
 */
export function watchStreams(options: StreamWatchOptions): Service {
  const { everyMs = 10_000 } = options
  const gauges = declareGauges(options)
  return {
    name: 'stream-watch',
    async run(signal) {
      while (!signal.aborted) {
        await lookAtAll(options, gauges)
        await sleep(everyMs, signal).catch(() => undefined)
      }
    },
  }
}

async function lookAtAll(options: StreamWatchOptions, gauges: ReturnType<typeof declareGauges>): Promise<void> {
  try {
    for (const stream of options.streams) await look(stream, options, gauges)
  } catch (error) {
    const cause = classifyRedisError(error)
    if (!(cause instanceof TransientError)) throw cause
  }
}

async function look(
  stream: string,
  { redis, readiness }: StreamWatchOptions,
  gauges: ReturnType<typeof declareGauges>,
): Promise<void> {
  const now = await redisTimeMs(redis)
  const state = await streamState(stream, { redis, now, leases: [], reasons: false })
  if (state.error !== undefined) return
  gauges.entries.set(state.entries, { stream })
  gauges.bytes.set(state.bytes, { stream })
  gauges.lag.set(state.lagSeconds, { stream })
  gauges.deadLetters.set(state.deadLetters.total, { stream })
  gauges.pending.set(
    state.groups.reduce((sum, { pending }) => sum + pending, 0),
    { stream },
  )
  readiness.setLag(stream, state.lagSeconds)
}

function declareGauges({ metrics, streams }: StreamWatchOptions) {
  return {
    entries: metrics.gauge({
      name: 'sluice_stream_entries',
      help: 'Entries in the stream, pending ones included. At the high-water mark the producers of the stream wait; nothing is lost.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
    bytes: metrics.gauge({
      name: 'sluice_stream_bytes',
      help: 'Memory of the stream in Redis, estimated.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
    pending: metrics.gauge({
      name: 'sluice_stream_pending_entries',
      help: 'Entries that were handed to a consumer and are not acked yet. When this does not move while the lag grows, a consumer is stuck or dead.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
    lag: metrics.gauge({
      name: 'sluice_stream_lag_seconds',
      help: 'Age of the oldest entry that is not acked yet. The AppView is that far behind the stream. Rising: the indexer is too slow, or has stopped.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
    deadLetters: metrics.gauge({
      name: 'sluice_stream_dead_letter_entries',
      help: 'Dead letters in <stream>_dlq, which wait for an operator. See them with `sluice dlq list`.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
  }
}
