/**
 * The progress of the backfiller, as metrics. What is left to do is read from Redis at each scrape, so it is the same
 * in every process. What was done, each process counts for itself.
 */
import { OP_REFUSALS, type OpRefusal } from '@sluice/atproto/commit-events.ts'
import { priorityStream, retryKey } from '@sluice/streams/backfill-queue.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import type { ConsumerObserver } from '@sluice/streams/consumer.ts'
import { countIncidents, type CountIncident } from '@sluice/streams/incidents.ts'
import { HOLD_CAUSES, type HeldBack } from '@sluice/streams/high-water.ts'
import type { CounterOf, Metrics } from '@sluice/runtime/metrics.ts'
import type { ExportChunk } from './export-events.ts'
import { DEAD_REASONS, FAILURE_CLASSES } from './failures.ts'
import { HOST_WAITS } from './pds-limits.ts'

const OUTCOMES = [
  'exported',
  'resynced',
  'account',
  'no-account',
  'retry',
  'dead',
  'set-aside',
  'moved',
  'put-off',
  'skipped',
] as const
export type RepoOutcome = (typeof OUTCOMES)[number]

/** After these outcomes a repository is not in the queue any more. */
const FINAL: readonly RepoOutcome[] = ['exported', 'resynced', 'account', 'no-account', 'dead', 'set-aside', 'skipped']

/** The state of this process at the moment of a scrape. */
export interface Now {
  underWay: number
  waiting: number
  hosts: number
  memoryBytes: number
  heldBy: HeldBack['by'] | undefined
}

export class Progress {
  readonly #repos
  readonly #records
  readonly #recordsRefused
  readonly #recordsFiltered
  readonly #bytes
  readonly #rate = new Rate()
  readonly #entries: CounterOf<{ what: readonly ['redelivered', 'reclaimed', 'phantom'] }>
  readonly retries: CounterOf<{ class: typeof FAILURE_CLASSES }>
  readonly dead: CounterOf<{ reason: typeof DEAD_REASONS }>
  readonly hostWaits: CounterOf<{ why: typeof HOST_WAITS }>
  readonly incident: CountIncident

  constructor(metrics: Metrics) {
    this.#repos = metrics.counter({
      name: 'sluice_backfill_repos_total',
      help: 'Repositories by what came of them. retry, moved and put-off come back; the others are final. no-account: only the listing of one host spoke for the account, and there is no such DID; or it is a did:web that failed too often, for which there was no room to wait, or whose status is not kept since its owner has many. Such an account is requested again when it is listed again. set-aside: given up without a dead letter, since their owner has many; see `sluice backfill status`.',
      labels: { outcome: OUTCOMES },
    })
    this.#records = metrics.counter({
      name: 'sluice_backfill_records_total',
      help: 'Records that were appended to the firehose stream.',
    })
    this.#recordsRefused = metrics.counter({
      name: 'sluice_backfill_records_refused_total',
      help: 'Records that were left out of an export because they cannot be stored, by reason. The other records of the repository are appended.',
      labels: { reason: OP_REFUSALS },
    })
    this.#recordsFiltered = metrics.counter({
      name: 'sluice_backfill_records_filtered_total',
      help: 'Records that were left out because their collection is not indexed, or because BACKFILLER_COLLECTIONS does not name it.',
    })
    this.#bytes = metrics.counter({
      name: 'sluice_backfill_bytes_total',
      help: 'Bytes of repositories received, after decompression, failed ones included.',
    })
    this.#entries = metrics.counter({
      name: 'sluice_backfill_entries_total',
      help: 'Entries that were handed out again, or lost. redelivered: after a restart; reclaimed: taken over from a dead backfiller; phantom: somebody deleted the entry while it was pending.',
      labels: { what: ['redelivered', 'reclaimed', 'phantom'] },
    })
    this.retries = metrics.counter({
      name: 'sluice_backfill_retries_total',
      help: 'Repositories that failed and will be tried again, by class of failure (docs/backfiller.md).',
      labels: { class: FAILURE_CLASSES },
    })
    this.dead = metrics.counter({
      name: 'sluice_backfill_dead_letters_total',
      help: 'Repositories that were given up, by reason. See them with `sluice dlq list`.',
      labels: { reason: DEAD_REASONS },
    })
    this.hostWaits = metrics.counter({
      name: 'sluice_backfill_host_waits_total',
      help: 'How often a host could not be asked. parked: it answered 429, or its repositories failed; busy: enough requests to it are under way; stated: its own headers say that no request is left; rate: our limit for it is reached; redis: Redis is away.',
      labels: { why: HOST_WAITS },
    })
    this.incident = countIncidents(metrics)
  }

  /** Registers the gauges: the state of this process, and what is left to do. */
  watch(metrics: Metrics, { redis, stream, now }: { redis: () => Redis; stream: string; now: () => Now }): void {
    const gauge = (name: string, help: string, value: (now: Now) => number): void =>
      void metrics.gauge({ name, help, collect: (gauge) => gauge.set(value(now())) })
    gauge('sluice_backfill_repos_under_way', 'Repositories being fetched, verified or appended.', (n) => n.underWay)
    gauge(
      'sluice_backfill_repos_waiting',
      'Repositories taken from the stream that wait for their hosts.',
      (n) => n.waiting,
    )
    gauge('sluice_backfill_hosts_active', 'Hosts with repositories under way or waiting.', (n) => n.hosts)
    gauge('sluice_backfill_memory_bytes', 'Memory in use, of BACKFILLER_MEMORY_BYTES.', (n) => n.memoryBytes)
    metrics.gauge({
      name: 'sluice_backfill_held_back',
      help: '1 while nothing is fetched. entries: the indexer is behind. memory: Redis is too full; this may never end by itself, because the chain records of all accounts stay in Redis.',
      labels: { by: HOLD_CAUSES },
      collect: (gauge) => {
        for (const by of HOLD_CAUSES) gauge.set(now().heldBy === by ? 1 : 0, { by })
      },
    })
    metrics.gauge({
      name: 'sluice_backfill_queue_entries',
      help: 'Repositories that are left: in the stream (normal), in the stream that is read first (priority), and in the schedule of later tries (later).',
      labels: { queue: ['normal', 'priority', 'later'] },
      collect: async (gauge) => {
        const left = await entriesLeft(redis(), stream)
        for (const queue of ['normal', 'priority', 'later'] as const) gauge.set(left[queue], { queue })
      },
    })
    metrics.gauge({
      name: 'sluice_backfill_eta_seconds',
      help: 'Estimated time until the queue is empty, by the pace of this process in the last minutes; 0 while no pace is known.',
      collect: async (gauge) => {
        const { normal, priority, later } = await entriesLeft(redis(), stream)
        const perSecond = this.#rate.perSecond()
        gauge.set(perSecond === 0 ? 0 : (normal + priority + later) / perSecond)
      },
    })
  }

  outcome(outcome: RepoOutcome): void {
    this.#repos.inc(1, { outcome })
    if (FINAL.includes(outcome)) this.#rate.add()
  }

  chunk({ creates, refused, filtered }: ExportChunk): void {
    this.#records.inc(creates.length)
    this.#recordsFiltered.inc(filtered)
    for (const reason of refused) this.#recordsRefused.inc(1, { reason: reason satisfies OpRefusal })
  }

  bytes(bytes: number): void {
    this.#bytes.inc(bytes)
  }

  get consumerObserver(): Partial<ConsumerObserver> {
    return {
      redelivered: (entries, from) =>
        this.#entries.inc(entries, { what: from === 'reclaimed' ? 'reclaimed' : 'redelivered' }),
      phantoms: (entries) => this.#entries.inc(entries, { what: 'phantom' }),
      incident: this.incident,
    }
  }
}

async function entriesLeft(redis: Redis, stream: string) {
  const first = priorityStream(stream)
  const [normal, priority, later, laterFirst] = await Promise.all([
    redis.xLen(stream),
    redis.xLen(first),
    redis.zCard(retryKey(stream)),
    redis.zCard(retryKey(first)),
  ])
  return { normal, priority, later: later + laterFirst }
}

/** Measures how many repositories a second leave the queue, over the last one to ten minutes. */
class Rate {
  static readonly #SLOT_MS = 60_000
  static readonly #SLOTS = 10
  readonly #slots: { startMs: number; count: number }[] = []

  add(): void {
    const startMs = Math.floor(performance.now() / Rate.#SLOT_MS) * Rate.#SLOT_MS
    const last = this.#slots.at(-1)
    if (last?.startMs === startMs) last.count++
    else this.#slots.push({ startMs, count: 1 })
    if (this.#slots.length > Rate.#SLOTS) this.#slots.shift()
  }

  perSecond(): number {
    const nowMs = performance.now()
    const oldestMs = nowMs - Rate.#SLOTS * Rate.#SLOT_MS
    const recent = this.#slots.filter(({ startMs }) => startMs > oldestMs)
    const count = recent.reduce((sum, slot) => sum + slot.count, 0)
    // At least a second: one repository in a slot that has only just begun would be a rate of thousands.
    const sinceMs = Math.max(1_000, nowMs - (recent[0]?.startMs ?? nowMs))
    return (count * 1_000) / sinceMs
  }
}
