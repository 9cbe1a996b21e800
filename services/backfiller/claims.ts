/**
 * Entries that this process holds: taken from a stream, and given back in exactly one of four ways, each durable before it
 * returns: done (acked), to be tried again, put off until its host gets a turn, or given up (dead letter).
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

/** Giving back is finished even while we stop; the drain of the process is its bound. */
const NEVER = new AbortController().signal

/** Entries of one stream that a process holds: enough to find hosts that are not busy, and to leave some for other processes. */
export const HELD_ENTRIES = 1_000

export interface ClaimsOptions {
  redis: Redis
  /** For its own connection, since a reader blocks. */
  redisUrl: string
  address: GroupAddress
  /** Goes before others. */
  urgent: boolean
  schedule: RetrySchedule
  /** What a dead process left is ours after so long. */
  reclaimIdleMs: number
  observer: Partial<ConsumerObserver>
  onRetry: (retry: Retry) => void
}

/** One entry that is ours until it is given back. */
export class Claim {
  readonly entry: BackfillEvent
  readonly urgent: boolean
  readonly id: string
  readonly stream: string
  /** How often it was handed out so far. */
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

  /** Resolves when it is known how it is given back, and nobody works on it any more; to give it back may take longer. */
  get decided(): Promise<void> {
    return this.#decided.promise
  }

  /** Nothing is left to do. */
  async done(): Promise<void> {
    this.#decided.resolve()
    await this.#batch.ack()
  }

  /** To be tried again in `delayMs`, as `entry`. */
  async retry(entry: BackfillEvent, delayMs: number): Promise<void> {
    const { schedule, address } = this.#options
    this.#decided.resolve()
    await this.#patiently(() => schedule.retry(address, this.id, entry, delayMs))
    await this.#batch.ack() // it is acked already; this lets the consumer forget it
  }

  /** To come back when its host has a turn; false when too many wait already, then it is still ours. */
  async defer(turn: Turn): Promise<boolean> {
    const { schedule, address } = this.#options
    const isDeferred = await this.#patiently(() => schedule.defer(address, this.id, this.entry, turn))
    if (!isDeferred) return false
    this.#decided.resolve()
    await this.#batch.ack()
    return true
  }

  /** Whether fewer wait in Redis than `part` of those that may. */
  async hasRoom(part: number): Promise<boolean> {
    const { schedule, address } = this.#options
    return await this.#patiently(() => schedule.hasRoom(address.stream, part))
  }

  /** Given up: a dead letter. Where they are full this waits for an operator. */
  async bury(reason: DeadReason, message: string, attempts: number): Promise<void> {
    this.#decided.resolve()
    await this.#batch.refuse(this.#batch.events[0]!, { reason, message, attempts })
  }

  #patiently<T>(act: () => Promise<T>): Promise<T> {
    return retry(NEVER, DEFAULT_BACKOFF, act, this.#options.onRetry)
  }
}

/** Hands the entries of one stream to `take`, one after the other, until `signal`; then waits for `settled`. */
export async function takeClaims(
  options: ClaimsOptions,
  { take, settled }: { take: (claim: Claim) => Promise<void>; settled: () => Promise<void> },
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
      // A sweep asks every few days for what is behind, and a broken repository is given up each time.
      oneLetterPerKey: true,
      // Hundreds are under way at once, and each is done when it is done.
      limits: { batchEvents: 1, lingerMs: 0, heldEntries: HELD_ENTRIES, reclaimIdleMs },
      isolate: false,
    })
    await consumer.run(signal, 1, async (batches) => {
      for await (const batch of batches) await take(new Claim(batch, options))
      await settled()
    })
  } finally {
    reader.destroy()
  }
}
