/**
 * Entries that this process holds. Each is taken from a stream, and given back in exactly one of four ways: done
 * (acked), to be tried again, put off until its host has a turn, or given up (dead letter). Each way is durable before
 * its method returns.
 */
import { backfillEventCodec } from '@sluice/events/codec.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { DEFAULT_BACKOFF, retry, type Retry } from '@sluice/runtime/backoff.ts'
import { consumerClientName } from '@sluice/streams/client-names.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { Consumer, type Batch, type ConsumerObserver } from '@sluice/streams/consumer.ts'
import type { GroupAddress } from '@sluice/streams/entries.ts'
import type { DeadReason } from './failures.ts'
import type { RetrySchedule, Turn } from './retry-schedule.ts'

/**
 * Giving an entry back is finished even after the stop signal. The time that the process has for draining is the bound.
 */
const NEVER = new AbortController().signal

/**
 * The most entries of one stream that a process holds. Enough to find entries of hosts that are not busy, and few
 * enough to leave some for other processes.
 */
export const HELD_ENTRIES = 1_000

export interface ClaimsOptions {
  redis: Redis
  /** For a connection of the reader's own, since reading blocks the connection. */
  redisUrl: string
  address: GroupAddress
  /** Entries of this stream go before those of a stream that is not urgent. */
  urgent: boolean
  schedule: RetrySchedule
  /** An entry of a dead process is taken over when nobody has touched it for so long. */
  reclaimIdleMs: number
  observer: Partial<ConsumerObserver>
  onRetry: (retry: Retry) => void
}

/** One entry that this process holds until it is given back. */
export class Claim {
  readonly entry: BackfillEvent
  readonly urgent: boolean
  readonly id: string
  readonly stream: string
  /** How often the entry was delivered so far, this time included. */
  readonly deliveries: number
  readonly #batch: Batch<BackfillEvent>
  readonly #options: ClaimsOptions
  readonly #decided = Promise.withResolvers<void>()

  constructor(batch: Batch<BackfillEvent>, options: ClaimsOptions) {
    this.entry = batch.events[0]!
    this.urgent = options.urgent
    this.id = batch.id
    this.stream = options.address.stream
    this.deliveries = batch.deliveries
    this.#batch = batch
    this.#options = options
  }

  /**
   * Resolves when it is decided how the entry is given back, and nobody works on the entry any more. Giving it back may
   * take longer.
   */
  get decided(): Promise<void> {
    return this.#decided.promise
  }

  /** The work on the entry is done: acks it. */
  async done(): Promise<void> {
    this.#decided.resolve()
    await this.#batch.ack()
  }

  /** Moves the entry to the schedule. It is tried again in `delayMs`, and comes back in the form of `entry`. */
  async retry(entry: BackfillEvent, delayMs: number): Promise<void> {
    const { schedule, address } = this.#options
    this.#decided.resolve()
    await this.#patiently(() => schedule.retry(address, this.id, entry, delayMs))
    await this.#batch.ack() // the schedule has acked the entry in Redis already; this lets the consumer forget it
  }

  /**
   * Moves the entry to the schedule until its host has a turn. False when the schedule is full: then this process still
   * holds the entry.
   */
  async defer(turn: Turn): Promise<boolean> {
    const { schedule, address } = this.#options
    const isDeferred = await this.#patiently(() => schedule.defer(address, this.id, this.entry, turn))
    if (!isDeferred) return false
    this.#decided.resolve()
    await this.#batch.ack()
    return true
  }

  /** Whether the schedule holds fewer entries than `part` (0 to 1) of what it may hold. */
  async hasRoom(part: number): Promise<boolean> {
    const { schedule, address } = this.#options
    return await this.#patiently(() => schedule.hasRoom(address.stream, part))
  }

  /** Gives the entry up: it becomes a dead letter. Waits for an operator while the dead letters are full. */
  async bury(reason: DeadReason, message: string, attempts: number): Promise<void> {
    this.#decided.resolve()
    await this.#batch.refuse(this.#batch.events[0]!, { reason, message, attempts })
  }

  #patiently<T>(act: () => Promise<T>): Promise<T> {
    return retry(NEVER, DEFAULT_BACKOFF, act, this.#options.onRetry)
  }
}

/** Hands the entries of one stream to `take`, one after the other, until `signal`. Then waits for `close`. */
export async function takeClaims(
  options: ClaimsOptions,
  { take, close }: { take: (claim: Claim) => Promise<void>; close: () => Promise<void> },
  signal: AbortSignal,
): Promise<void> {
  const { redis, redisUrl, address, reclaimIdleMs, observer } = options
  const name = consumerClientName('backfiller', address.consumer, address.stream)
  const reader = await connectRedis({ url: redisUrl, name, signal })
  try {
    const consumer = new Consumer({
      reader,
      redis,
      address,
      observer,
      codec: backfillEventCodec,
      key: ({ did }) => did,
      // A sweep requests every few days the repositories that are behind. A broken repository is given up each time,
      // and shall have one letter.
      oneLetterPerKey: true,
      // Hundreds of entries are under way at once, and each is acked when it is done, whatever the others do.
      limits: { batchEvents: 1, lingerMs: 0, heldEntries: HELD_ENTRIES, reclaimIdleMs },
      isolate: false,
    })
    await consumer.run(signal, 1, async (batches) => {
      for await (const batch of batches) await take(new Claim(batch, options))
      await close()
    })
  } finally {
    reader.destroy()
  }
}
