/**
 * A consumer of one stream: reads entries, hands out batches, acks.
 *
 * - Every entry of the stream is handed out at least once, to some living consumer of the group. It is acked only by
 *   `batch.ack()`, or when its dead letter is stored.
 * - The consumer first finishes the entries that were pending under its name, then takes new entries. From time to
 *   time it takes over what a dead consumer left behind. While it lives it keeps touching the entries that it holds, so
 *   that the group does not mistake slowness for death.
 * - Events of one key never overtake each other while one consumer reads them, even when an answer of Redis gets
 *   lost. After a takeover they may, which the indexer absorbs by rev.
 * - An entry that cannot be decoded becomes a dead letter. An entry that was in work each time a process died is
 *   handed out alone. It becomes a dead letter when the process keeps dying while it works on that entry alone.
 * - Redis may go away, be flushed or fail over: reading continues when Redis is back. A group that was lost is made
 *   again, and is an incident.
 */
import { INVALID_ENTRY_REASONS, type EntryCodec, type EntryFields } from '@sluice/events/codec.ts'
import type { BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { isAbort } from '@sluice/runtime/errors.ts'
import type { Redis } from './connection.ts'
import { ConsumerRun } from './consumer-run.ts'
import { DEAD_LETTERS_MAX } from './dead-letters.ts'
import type { GroupAddress } from './entries.ts'
import type { IncidentKind } from './incidents.ts'
import { Lanes, type BatchShare, type LaneLimits, type LaneTurn } from './lanes.ts'
import type { Turns } from './turns.ts'

export interface ConsumerOptions<E extends object> {
  /** The connection for reads that block; nothing else uses it. */
  reader: Redis
  redis: Redis
  address: GroupAddress
  codec: EntryCodec<E>
  /** Events of one key are handed out in order, one batch at a time. */
  key: (event: E) => string
  /**
   * The same key, read from an entry that is not decoded yet; undefined where it cannot be told. An entry whose key can
   * be told is held as text and decoded when its batch begins. Decoded earlier, it would be a tree of objects that the
   * garbage collector walks again and again while it waits.
   */
  peekKey?: ((fields: EntryFields) => string | undefined) | undefined
  limits?: Partial<ConsumerLimits>
  /** Called before each batch; default: always 1. */
  batchShare?: BatchShare
  /**
   * For consumers of several streams that have the same number of lanes. A key is in the same lane of each stream, and
   * the lanes of one number take turns.
   */
  turn?: LaneTurn
  /**
   * One object, shared by all consumers of a process. While an entry that may be killing the process is worked on, none
   * of them has another batch in work. So if the process dies then, that entry is blamed.
   */
  processTurns?: Turns
  observer?: Partial<ConsumerObserver>
  backoff?: BackoffPolicy
  /** Keeps only the latest dead letter of each key. */
  oneLetterPerKey?: boolean
  /**
   * False: entries that may be killing the process are handed out like any others. For a worker that has many entries
   * under way at once, and goes by `Batch.deliveries` itself.
   */
  isolate?: boolean
}

export interface ConsumerLimits extends LaneLimits {
  /**
   * The most entries in one answer of Redis; fewer are asked for when entries are large. It bounds how far `heldBytes`
   * can be overshot.
   */
  readEntries: number
  /** A read waits at most this long for its first entry, so a stop may have to wait as long. */
  blockMs: number
  /** Pending entries that nobody touched for this long belong to a dead consumer. */
  reclaimIdleMs: number
  /** A consumer with nothing pending that was away for this long is forgotten. */
  retireIdleMs: number
  leaseMs: number
  /** After the signal, acks and dead letters are tried for this long. What is not acked then is handed out again. */
  finishMs: number
  /** At this many dead letters the stream stops and waits for an operator. */
  deadLetters: number
}

const CONSUMER_LIMITS: ConsumerLimits = {
  batchEvents: 2_000,
  batchBytes: 8 << 20,
  heldEntries: 10_000,
  heldBytes: 32 << 20,
  lingerMs: 4,
  // 64 costs Node 1.6 µs an entry, 250 would cost 1.3. The smaller number is worth that: it limits the memory that a
  // sudden run of 1 MB records may take.
  readEntries: 64,
  blockMs: 1_000,
  reclaimIdleMs: 60_000,
  retireIdleMs: 3_600_000,
  leaseMs: 10_000,
  finishMs: 15_000,
  deadLetters: DEAD_LETTERS_MAX,
}

/** An entry that became a dead letter, and what was wrong with it. */
export interface BuriedEntry {
  entryId: string
  fields: EntryFields
  message: string
}

/** What happens to entries, for metrics. */
export interface ConsumerObserver {
  read(entries: number): void
  acked(entries: number): void
  redelivered(entries: number, from: 'own-pending' | 'reclaimed'): void
  phantoms(entries: number): void
  buried(reason: string, entry: BuriedEntry): void
  groupLost(): void
  /** An incident of this consumer was stored. */
  incident(kind: IncidentKind): void
  retired(consumers: string[]): void
  trouble(error: Error, retryMs: number): void
  recovered(): void
}

/** A batch as a worker of a lane gets it: events in order, and the two ways to finish them. */
export interface Batch<E> {
  events: E[]
  /** The id of its first entry. */
  id: string
  /** How often its first entry was handed out so far, to any consumer; 1 means never before. */
  deliveries: number
  /** Acks and deletes every entry of the batch that was not refused. Only after its effect is durable. */
  ack: () => Promise<void>
  /** Stores a dead letter for one event of the batch, and acks its entry in the same step. */
  refuse: (event: E, refusal: Refusal) => Promise<void>
  yieldTurn: YieldTurn
}

/**
 * Runs `wait` and returns its result. Meanwhile others have the two turns that the batch holds: streams that share its
 * lane have the lane's turn, and any other batch may have the turn of the process. For waits that may never end, such
 * as for PostgreSQL or an operator.
 */
export type YieldTurn = <T>(wait: () => Promise<T>) => Promise<T>

/** Why an event is refused; a `RefusedError` is one. */
export interface Refusal {
  /** From a closed list of the caller. `CONSUMER_REASONS` are those of the consumer itself. */
  reason: string
  code?: string | undefined
  message: string
  /** How often it was tried; by default how often it was handed out. */
  attempts?: number
}

/** The reasons for which a consumer itself gives up an entry. */
export const CONSUMER_REASONS = [...INVALID_ENTRY_REASONS, 'crash-loop'] as const

/** Works on the batches of one lane, one after the other, until there are no more. */
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

  /** How many entries were handed to this consumer and are not acked yet. */
  get heldEntries(): number {
    return this.#lanes?.heldEntries ?? 0
  }

  /** The size of these entries, as text. */
  get heldBytes(): number {
    return this.#lanes?.heldBytes ?? 0
  }

  /**
   * Reads until `signal`, with `lanes` workers side by side. After the signal each worker finishes the batch it has;
   * entries that were read and not started stay pending. Rejects with the first failure of reading or of a worker,
   * after the others have finished. May be called again after that.
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
