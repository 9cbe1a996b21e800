/**
 * A consumer of one stream: reads, hands out batches, acks.
 *
 * - Every entry of the stream is handed out at least once to some living consumer of the group, and acked only by `batch.ack()` or when
 *   its dead letter is stored.
 * - It first finishes what was pending under its name, then takes new entries, and now and then takes over what a dead consumer left behind.
 *   While it lives it keeps telling the group what it holds, so that slowness is not mistaken for death.
 * - Events of one key never overtake each other while one consumer reads them, even when an answer of Redis gets lost. After a takeover they may, which the
 *   indexer absorbs by rev.
 * - An entry that cannot be decoded becomes a dead letter. An entry that was there each time a process died is handed out alone, and becomes
 *   a dead letter when the process keeps dying with it alone.
 * - Redis may go away, be flushed or fail over: reading goes on when it is back. A group that was lost is made again, and is an incident.
 */
import { INVALID_ENTRY_REASONS, type EntryCodec, type EntryFields } from '@sluice/events/codec.ts'
import type { BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { isAbort } from '@sluice/runtime/errors.ts'
import type { Redis } from './connection.ts'
import { ConsumerRun } from './consumer-run.ts'
import { DEAD_LETTERS_MAX } from './dead-letters.ts'
import type { GroupAddress } from './entries.ts'
import { Lanes, type BatchShare, type LaneLimits, type LaneTurn } from './lanes.ts'
import type { Turns } from './turns.ts'

export interface ConsumerOptions<E extends object> {
  /** For reads that block; nothing else uses it. */
  reader: Redis
  redis: Redis
  address: GroupAddress
  codec: EntryCodec<E>
  /** Events of one key are handed out in order, one batch at a time. */
  key: (event: E) => string
  /**
   * The same key, of an entry that is not decoded yet; undefined where it cannot be told. An entry whose key can be told is held as text, and decoded when its batch
   * begins: the garbage collector would walk trees of objects that wait, again and again.
   */
  peekKey?: ((fields: EntryFields) => string | undefined) | undefined
  limits?: Partial<ConsumerLimits>
  /** Asked before each batch; default: always 1. */
  batchShare?: BatchShare
  /** For consumers of several streams that have the same number of lanes: a key is in the same lane of each, and these lanes take turns. */
  turn?: LaneTurn
  /**
   * One for all consumers of a process: while an entry that may be killing the process is worked on, none of them has a batch beside it. If the process dies then,
   * the death is held against that entry.
   */
  processTurns?: Turns
  observer?: Partial<ConsumerObserver>
  backoff?: BackoffPolicy
  /** Of the dead letters of one key the latest is kept. */
  oneLetterPerKey?: boolean
  /** False: entries that may be killing the process are handed out as any others. For a worker that has many under way at once, and judges by `Batch.deliveries` itself. */
  isolate?: boolean
}

export interface ConsumerLimits extends LaneLimits {
  /** Entries in one answer of Redis, fewer when they are large. It bounds how far `heldBytes` can be overshot. */
  readEntries: number
  /** A read waits this long for its first entry; so a stop may have to. */
  blockMs: number
  /** Pending entries that nobody touched for this long belong to a dead consumer. */
  reclaimIdleMs: number
  /** A consumer that was away this long, with nothing pending, is forgotten. */
  retireIdleMs: number
  leaseMs: number
  /** After the signal, acks and dead letters are tried for this long. What is not acked then is handed out again. */
  finishMs: number
  /** Dead letters of this stream, from which on it stops and waits for the operator. */
  deadLetters: number
}

const CONSUMER_LIMITS: ConsumerLimits = {
  batchEvents: 2_000,
  batchBytes: 8 << 20,
  heldEntries: 10_000,
  heldBytes: 32 << 20,
  lingerMs: 4,
  // 1.6 µs of node an entry, against 1.3 with 250: what a sudden run of 1 MB records may cost in memory matters more.
  readEntries: 64,
  blockMs: 1_000,
  reclaimIdleMs: 60_000,
  retireIdleMs: 3_600_000,
  leaseMs: 10_000,
  finishMs: 15_000,
  deadLetters: DEAD_LETTERS_MAX,
}

/** What happens to entries, for metrics. */
export interface ConsumerObserver {
  read(entries: number): void
  acked(entries: number): void
  redelivered(entries: number, from: 'own-pending' | 'reclaimed'): void
  phantoms(entries: number): void
  buried(reason: string): void
  groupLost(): void
  retired(consumers: string[]): void
  trouble(error: Error, retryMs: number): void
  recovered(): void
}

/** What one lane gets: events in order, and the two ways to be done with them. */
export interface Batch<E> {
  events: E[]
  /** The id of its first entry. */
  id: string
  /** How often its first entry was handed out so far, to whomever; 1 means never before. */
  deliveries: number
  /** Acks and deletes every entry of the batch that was not refused. Only after its effect is durable. */
  ack: () => Promise<void>
  /** Stores a dead letter for one event of the batch, in the step that acks it. */
  refuse: (event: E, refusal: Refusal) => Promise<void>
  yieldTurn: YieldTurn
}

/**
 * Runs `wait` and returns its result. Meanwhile the batch's turns go to others: that of its lane to streams that share the lane, that of the process to any other
 * batch. For waits that may never end, such as for PostgreSQL or an operator.
 */
export type YieldTurn = <T>(wait: () => Promise<T>) => Promise<T>

/** Why an event is refused; a `RefusedError` is one. */
export interface Refusal {
  /** From a closed list of the caller's; `CONSUMER_REASONS` are ours. */
  reason: string
  code?: string | undefined
  message: string
  /** How often it was tried; by default how often it was handed out. */
  attempts?: number
}

/** Why a consumer itself gives an entry up. */
export const CONSUMER_REASONS = [...INVALID_ENTRY_REASONS, 'crash-loop'] as const

/** Works off the batches of one lane, one after the other, until there are no more. */
export type Work<E> = (batches: AsyncIterable<Batch<E>>) => Promise<void>

export class Consumer<E extends object> {
  readonly #options: ConsumerOptions<E>
  readonly #limits: ConsumerLimits
  #lanes: Lanes<E> | undefined

  constructor(options: ConsumerOptions<E>) {
    this.#options = options
    this.#limits = { ...CONSUMER_LIMITS, ...options.limits }
  }

  get stream(): string {
    return this.#options.address.stream
  }

  /** Entries handed to us and not acked yet. */
  get heldEntries(): number {
    return this.#lanes?.heldEntries ?? 0
  }

  /** Their size, as text. */
  get heldBytes(): number {
    return this.#lanes?.heldBytes ?? 0
  }

  /**
   * Reads until `signal`, with `lanes` workers side by side. After the signal each finishes the batch it has; what was read and not started
   * stays pending. Rejects with the first failure of reading or of a worker, after the others have finished; may be called again then.
   */
  async run(signal: AbortSignal, lanes: number, work: Work<E>): Promise<void> {
    this.#lanes = new Lanes(lanes, this.#limits, this.#options.batchShare, this.#options.turn)
    try {
      await new ConsumerRun(this.#options, this.#limits, this.#lanes, signal).toEnd(lanes, work)
    } catch (error) {
      if (!(signal.aborted && isAbort(error))) throw error
    } finally {
      this.#lanes = undefined
    }
  }
}
