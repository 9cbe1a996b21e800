/**
 * Reports what happens to entries between Redis and the index, as metrics and log lines. Incidents are stored by the
 * consumer itself.
 */
import { REFUSED_REASONS } from '@sluice/database/errors.ts'
import { DEFECT } from '@sluice/indexing/bisect.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'
import { CONSUMER_REASONS, type ConsumerObserver } from '@sluice/streams/consumer.ts'

const BURIAL_REASONS = [...CONSUMER_REASONS, ...REFUSED_REASONS, DEFECT] as const
type BurialReason = (typeof BURIAL_REASONS)[number]

export interface Surroundings {
  log: Logger
  metrics: Metrics
  readiness: Readiness
}

/** Returns a function that makes the observer of one stream. */
export function observeConsumers(
  streams: readonly string[],
  around: Surroundings,
): (stream: string) => ConsumerObserver {
  const counters = declareCounters(around.metrics, streams)
  return (stream) => observer(stream, counters, around)
}

function observer(
  stream: string,
  counters: ReturnType<typeof declareCounters>,
  around: Surroundings,
): ConsumerObserver {
  const { log, readiness } = around
  return {
    read: (entries) => counters.read.inc(entries, { stream }),
    acked: (entries) => counters.acked.inc(entries, { stream }),
    redelivered(entries, from) {
      counters.redelivered.inc(entries, { stream, from })
      if (from === 'reclaimed' && entries > 0) {
        log.warn({ stream, entries }, `took over pending entries of ${stream} that had no living consumer`)
      }
    },
    phantoms: (entries) => counters.phantoms.inc(entries, { stream }),
    buried(reason) {
      counters.buried.inc(1, { stream, reason: reason as BurialReason })
      log.warn({ stream, reason }, `an entry of ${stream} became a dead letter: look at it with \`sluice dlq list\``)
    },
    groupLost() {
      counters.groupsLost.inc(1, { stream })
      log.error(
        { stream },
        `${stream} or its consumer group was gone, and was made anew: compare with \`sluice sweep\``,
      )
    },
    retired: (consumers) => log.info({ stream, consumers }, 'forgot consumers that went away'),
    trouble(error, retryMs) {
      readiness.block(`redis ${stream}`, error.message)
      logRetry(log, retryMs, `reading ${stream} failed`, error)
    },
    recovered: () => readiness.clear(`redis ${stream}`),
  }
}

function declareCounters(metrics: Metrics, streams: readonly string[]) {
  return {
    read: metrics.counter({
      name: 'sluice_stream_read_entries_total',
      help: 'Entries handed to this process by Redis.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
    acked: metrics.counter({
      name: 'sluice_stream_acked_entries_total',
      help: 'Entries acked and deleted, after their effect was durable.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
    redelivered: metrics.counter({
      name: 'sluice_stream_redelivered_entries_total',
      help: 'Entries that came again: our own after a restart, or those of a consumer that died.',
      labels: { stream: streams, from: ['own-pending', 'reclaimed'] },
      configured: ['stream'],
    }),
    phantoms: metrics.counter({
      name: 'sluice_stream_phantom_entries_total',
      help: 'Pending entries without a body, cleared: somebody deleted or trimmed entries that were not acked. They are lost.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
    buried: metrics.counter({
      name: 'sluice_stream_dead_letters_total',
      help: 'Entries that can never be applied and wait in <stream>_dlq for an operator.',
      labels: { stream: streams, reason: BURIAL_REASONS },
      configured: ['stream'],
    }),
    groupsLost: metrics.counter({
      name: 'sluice_stream_groups_lost_total',
      help: 'Times a stream or its group had vanished (flushed Redis, failover): entries may be lost.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
  }
}
