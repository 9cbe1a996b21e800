/**
 * Reports what happens to entries between Redis and the index, as metrics and log lines. Incidents are stored by the
 * consumer itself.
 */
import { REFUSED_REASONS } from '@sluice/database/errors.ts'
import { DEFECT } from '@sluice/indexing/bisect.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'
import { countLostGroups } from '@sluice/streams/consumer-metrics.ts'
import { CONSUMER_REASONS, type ConsumerObserver } from '@sluice/streams/consumer.ts'
import type { CountIncident } from '@sluice/streams/incidents.ts'
import type { RefusalLog } from './refusal-log.ts'

const BURIAL_REASONS = [...CONSUMER_REASONS, ...REFUSED_REASONS, DEFECT] as const
type BurialReason = (typeof BURIAL_REASONS)[number]

export interface Surroundings {
  log: Logger
  metrics: Metrics
  readiness: Readiness
  refusals: RefusalLog
  countIncident: CountIncident
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
  const { log, readiness, refusals } = around
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
    buried(reason, entry) {
      counters.buried.inc(1, { stream, reason: reason as BurialReason })
      refusals.letter(stream, reason, entry)
    },
    incident: around.countIncident,
    groupLost() {
      counters.groupLost(stream)
      log.error(
        { stream },
        `${stream} or its consumer group was gone, and was made anew. Entries may be lost: \`sluice sweep\` finds what is missing`,
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
      help: 'Entries that were handed out a second time: after a restart of their own consumer, or taken over from a consumer that died.',
      labels: { stream: streams, from: ['own-pending', 'reclaimed'] },
      configured: ['stream'],
    }),
    phantoms: metrics.counter({
      name: 'sluice_stream_phantom_entries_total',
      help: 'Pending entries that had no body and were removed: somebody deleted or trimmed entries that were not acked. They are lost.',
      labels: { stream: streams },
      configured: ['stream'],
    }),
    buried: metrics.counter({
      name: 'sluice_stream_dead_letters_total',
      help: 'Entries that can never be applied. They wait in <stream>_dlq for an operator.',
      labels: { stream: streams, reason: BURIAL_REASONS },
      configured: ['stream'],
    }),
    groupLost: countLostGroups(metrics, streams),
  }
}
