/** The metrics of the ingester. docs/ingester.md says what to make of them. */
import { CLOSE_REASONS } from '@sluice/atproto/subscribe.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import { HOLD_CAUSES } from '@sluice/streams/high-water.ts'
import { ACCOUNT_ANSWERS, type AccountAnswer } from './account-check.ts'
import { RESYNC_ANSWERS, RESYNC_CAUSES } from './decide.ts'
import { LABEL_OUTCOMES } from './label-check.ts'
import type { LabelerObserver } from './labeler.ts'
import { LISTING_OUTCOMES } from './listing.ts'
import { OUTCOMES, REFUSALS } from './outcome.ts'
import { SAMPLE_OUTCOMES, type SampleOutcome } from './refusal-samples.ts'
import { FRAME_TYPES } from './relay.ts'
import { PHASES, type ReposObserver } from './repos.ts'

export type FirehoseMetrics = ReturnType<typeof firehoseMetrics>

/** Where gauges are read from at a scrape. */
export interface FirehoseGauges {
  underWayBytes(): number
  /** Undefined: nothing is durable yet. */
  eventTimeMs(host: string): number | undefined
}

const RECONNECT_REASONS = [...CLOSE_REASONS, 'backpressure', 'future-cursor'] as const

/** Declares the metrics of the firehose; call once per process. */
export function firehoseMetrics(metrics: Metrics, hosts: readonly string[], gauges: FirehoseGauges) {
  declareGauges(metrics, hosts, gauges)
  return {
    ...relayMetrics(metrics, hosts),
    outcomes: metrics.counter({
      name: 'sluice_ingester_outcomes_total',
      help: 'What became of frames, counted when that is durable. Every frame ends in exactly one outcome. refused:<reason> tells why a frame was not taken.',
      labels: { outcome: OUTCOMES },
    }),
    refusedOps: metrics.counter({
      name: 'sluice_ingester_refused_ops_total',
      help: 'Record changes that were left out of commits whose other changes were appended: they cannot be stored.',
      labels: { reason: REFUSALS },
    }),
    events: metrics.counter({ name: 'sluice_ingester_events_total', help: 'Events appended to the firehose stream.' }),
    resyncs: metrics.counter({
      name: 'sluice_ingester_resyncs_total',
      help: 'Repositories that were found to be incomplete. The answer says whether a repository was requested anew, had been requested already, or has to wait, because too many were requested or this one too often. Many at once: the relay has lost something.',
      labels: { cause: RESYNC_CAUSES, answer: RESYNC_ANSWERS },
    }),
    conflicts: metrics.counter({
      name: 'sluice_ingester_chain_conflicts_total',
      help: 'Chain records that another process changed at the same time, so that the decision was made again. Some are normal while repositories are fetched.',
    }),
    delay: metrics.histogram({
      name: 'sluice_ingester_event_delay_seconds',
      help: 'Seconds from the time that an event names until it is durable in Redis.',
      buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600, 86_400],
    }),
    verifySeconds: metrics.counter({
      name: 'sluice_ingester_verify_seconds_total',
      help: 'Time spent on verifying and decoding frames, of all threads together. When its rate is near the number of threads, more processors would help.',
    }),
    appendSeconds: metrics.histogram({
      name: 'sluice_ingester_append_seconds',
      help: 'How long it took to make a batch durable in Redis. Long: Redis is slow, full, or far away.',
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30],
    }),
    identityWaits: metrics.counter({
      name: 'sluice_ingester_identity_waits_total',
      help: 'Tries to resolve an identity that failed and are made again: the directory, a host or the shared cache does not answer. Frames wait meanwhile.',
    }),
  }
}

function declareGauges(metrics: Metrics, hosts: readonly string[], gauges: FirehoseGauges): void {
  metrics.gauge({
    name: 'sluice_ingester_under_way_bytes',
    help: 'Bytes of frames on their way from the sockets to Redis. At INGESTER_MEMORY_BYTES the sockets are not read.',
    collect: (gauge) => gauge.set(gauges.underWayBytes()),
  })
  metrics.gauge({
    name: 'sluice_ingester_last_event_age_seconds',
    help: 'Age of the newest event of the relay that is durable in Redis, also of one from before a restart; 0 before the first event ever. Rising on a busy relay: the ingester falls behind, or is paused.',
    labels: { host: hosts },
    configured: ['host'],
    collect: (gauge) => {
      for (const host of hosts) {
        const timeMs = gauges.eventTimeMs(host)
        if (timeMs !== undefined) gauge.set(Math.max(0, (Date.now() - timeMs) / 1_000), { host })
      }
    },
  })
}

/** The metrics that each relay has. */
function relayMetrics(metrics: Metrics, hosts: readonly string[]) {
  return {
    frames: metrics.counter({
      name: 'sluice_ingester_frames_total',
      help: 'Frames read from relays. None for long: the relay is silent, or reading is paused (see sluice_ingester_backpressure).',
      labels: { host: hosts, type: FRAME_TYPES },
      configured: ['host'],
    }),
    reconnects: metrics.counter({
      name: 'sluice_ingester_reconnects_total',
      help: 'Connections to relays that ended, by reason. The reason that rises says where to look: the network, the relay, or our own speed (backpressure).',
      labels: { host: hosts, reason: RECONNECT_REASONS },
      configured: ['host'],
    }),
    connected: metrics.gauge({
      name: 'sluice_ingester_connected',
      help: '1 while the relay is connected.',
      labels: { host: hosts },
      configured: ['host'],
    }),
    seq: metrics.gauge({
      name: 'sluice_ingester_seq',
      help: 'The durable cursor of the relay: everything up to it is in Redis, or was refused and counted by reason.',
      labels: { host: hosts },
      configured: ['host'],
    }),
  }
}

/**
 * Declares the gauge of backpressure, for each stream that is written to; call once per process.
 * @param heldBy why appending to the stream waits now
 */
export function backpressureMetrics(
  metrics: Metrics,
  streams: readonly string[],
  heldBy: (stream: string) => (typeof HOLD_CAUSES)[number] | undefined,
): void {
  metrics.gauge({
    name: 'sluice_ingester_backpressure',
    help: '1 while nothing is appended to the stream, because it holds too many entries or Redis uses too much memory. Nothing is lost. Look at the consumers of the stream.',
    labels: { stream: streams, by: HOLD_CAUSES },
    configured: ['stream'],
    collect: (gauge) => {
      for (const stream of streams) {
        for (const by of HOLD_CAUSES) gauge.set(heldBy(stream) === by ? 1 : 0, { stream, by })
      }
    },
  })
}

/** Declares the counter of samples of refused frames and labels; call once per process. */
export function sampleMetrics(metrics: Metrics): (outcome: SampleOutcome) => void {
  const samples = metrics.counter({
    name: 'sluice_ingester_refusal_samples_total',
    help: 'Samples of refused frames and labels, for sluice refused. stored: it can be looked at; left-out: there were many samples already; failed: Redis is full or away.',
    labels: { outcome: SAMPLE_OUTCOMES },
  })
  return (outcome) => samples.inc(1, { outcome })
}

/** Declares the counter of the answers of accounts' hosts; call once per process. */
export function accountMetrics(metrics: Metrics): (answer: AccountAnswer) => void {
  const answers = metrics.counter({
    name: 'sluice_ingester_account_checks_total',
    help: 'Accounts whose host was asked for their status, because what came from upstream did not agree with the stored status. Many that differ: account events are lost or late.',
    labels: { answer: ACCOUNT_ANSWERS },
  })
  return (answer) => answers.inc(1, { answer })
}

/** Declares the metrics of listing repositories; call once per process. */
export function repoMetrics(metrics: Metrics): ReposObserver {
  const listed = metrics.counter({
    name: 'sluice_ingester_listed_repos_total',
    help: 'Repositories that hosts listed, by what came of it. asked: the repository was requested from the backfiller.',
    labels: { outcome: LISTING_OUTCOMES },
  })
  const phases = metrics.gauge({
    name: 'sluice_ingester_listing_phase',
    help: '1 for the phase in which the enumeration of repositories is now. Listing for days: look at the backpressure of the repo stream, and at sluice_ingester_listing_waits_total.',
    labels: { phase: PHASES },
  })
  const failures = metrics.counter({
    name: 'sluice_ingester_listing_host_failures_total',
    help: 'Hosts that refused to list their repositories, or failed too often. They are asked again at the next sweep.',
  })
  const waits = metrics.counter({
    name: 'sluice_ingester_listing_waits_total',
    help: 'Pages of a listing that failed and were asked for again after a wait.',
  })
  return {
    listed: (counts) => {
      for (const [outcome, count] of counts) listed.inc(count, { outcome })
    },
    phase: (now) => {
      for (const phase of PHASES) phases.set(phase === now ? 1 : 0, { phase })
    },
    hostFailed: () => failures.inc(1),
    waiting: () => waits.inc(1),
  }
}

/** The host label that all labelers share which nobody configured, since their number is not known. */
export const DISCOVERED = 'discovered'

export type LabelMetrics = ReturnType<typeof labelMetrics>

/**
 * Declares the metrics of labelers; call once per process.
 * @param hosts of the labelers that were configured
 */
export function labelMetrics(metrics: Metrics, hosts: readonly string[]) {
  const host = [...hosts, DISCOVERED]
  const connections = new Map<string, number>()
  const connected = metrics.gauge({
    name: 'sluice_ingester_labelers_connected',
    help: 'How many labelers are connected.',
    labels: { host },
    configured: ['host'],
  })
  return {
    connected(host: string, by: 1 | -1): void {
      const count = (connections.get(host) ?? 0) + by
      connections.set(host, count)
      connected.set(count, { host })
    },
    labels: metrics.counter({
      name: 'sluice_ingester_labels_total',
      help: 'Labels read from labelers, by what came of them. With any other outcome than appended the label was refused: the labeler sent what cannot be trusted.',
      labels: { host, outcome: LABEL_OUTCOMES },
      configured: ['host'],
    }),
    reconnects: metrics.counter({
      name: 'sluice_ingester_labeler_reconnects_total',
      help: 'Connections to labelers that ended, by reason.',
      labels: { host, reason: RECONNECT_REASONS },
      configured: ['host'],
    }),
  }
}

/**
 * The observer of one labeler.
 * @param host its label in the metrics
 */
export function labelObserver(metrics: LabelMetrics, host: string): LabelerObserver {
  let isConnected = false
  return {
    labels: (outcome, count) => metrics.labels.inc(count, { host, outcome }),
    connected: () => {
      if (!isConnected) metrics.connected(host, 1)
      isConnected = true
    },
    disconnected: (_, reason) => {
      if (isConnected) metrics.connected(host, -1)
      isConnected = false
      metrics.reconnects.inc(1, { host, reason })
    },
  }
}
