/**
 * The entries that a consumer holds, dealt out into lanes.
 *
 * - Entries of one key are always in the same lane and keep their order. Lanes are independent of each other.
 * - When the stream is read to its end, a lane hands out everything that waits in it as one batch, for low latency.
 *   While there is more in the stream it hands out only full batches, which cost less.
 * - The entries that are held are bounded in bytes and in number; an entry is held until it is acked. All lanes share
 *   the bound. So a lane that stands still blocks the others when all held entries are in that lane.
 */
import type { EntryFields } from '@sluice/events/codec.ts'
import { laneOf } from './spread.ts'
import { YieldableTurn } from './turns.ts'

export interface Held<E> {
  id: string
  /** The decoded event. Absent until the batch of the entry begins, if the key could be told without decoding. */
  event?: E | undefined
  key: string
  fields: EntryFields
  bytes: number
  /** How often Redis has delivered the entry. */
  deliveries: number
  /** The entry gets a batch of its own: it was in work each time a process died. */
  isolated: boolean
}

export interface LaneLimits {
  /** Events in one batch, at most. */
  batchEvents: number
  batchBytes: number
  /** Bounds of the entries held in all lanes together, those in work included. */
  heldEntries: number
  heldBytes: number
  /** A batch that would be small waits this long for company. */
  lingerMs: number
}

/** The part of `batchEvents` that the next batch may have: above 0, and at most 1. */
export type BatchShare = () => number

/**
 * Resolves when this lane may take a batch. The result is disposed of when that batch is finished, and while it yields
 * its turn.
 */
export type LaneTurn = (lane: number) => Promise<Disposable>

interface Lane<E> {
  waiting: Held<E>[]
  /** The size of the waiting entries. */
  bytes: number
  wake: (() => void) | undefined
  /** The turn of the batch that is in work. */
  turn: YieldableTurn | undefined
}

export class Lanes<E extends object> {
  readonly #limits: LaneLimits
  readonly #batchShare: BatchShare
  readonly #turn: LaneTurn | undefined
  readonly #lanes: Lane<E>[]
  readonly #held = new Map<string, Held<E>>()
  /** Callers that wait for room: the reader and the reclaimer, so never more than two. */
  readonly #onRoom: (() => void)[] = []
  #bytes = 0
  #moreToCome = false
  #closed = false

  constructor(count: number, limits: LaneLimits, batchShare: BatchShare = () => 1, turn?: LaneTurn) {
    this.#limits = limits
    this.#batchShare = batchShare
    this.#turn = turn
    this.#lanes = Array.from({ length: count }, () => ({
      waiting: [],
      bytes: 0,
      wake: undefined,
      turn: undefined,
    }))
  }

  get heldEntries(): number {
    return this.#held.size
  }

  get heldBytes(): number {
    return this.#bytes
  }

  /**
   * Set by the reader while it has not seen the end of the stream. While it is true, a lane waits until it has a full
   * batch, or until no more entries can be held.
   */
  get moreToCome(): boolean {
    return this.#moreToCome
  }

  set moreToCome(is: boolean) {
    this.#moreToCome = is
    if (!is) this.#wakeLanes()
  }

  has(id: string): boolean {
    return this.#held.has(id)
  }

  /** How much more fits. */
  get room(): { entries: number; bytes: number } {
    const { heldEntries, heldBytes } = this.#limits
    return { entries: Math.max(0, heldEntries - this.#held.size), bytes: Math.max(0, heldBytes - this.#bytes) }
  }

  /** Resolves when there is room, or the lanes are closed. */
  async roomToRead(): Promise<void> {
    while (!this.#hasRoom() && !this.#closed) {
      await new Promise<void>((resolve) => this.#onRoom.push(resolve))
    }
  }

  add(held: Held<E>): void {
    if (this.#held.has(held.id)) return
    this.#held.set(held.id, held)
    this.#bytes += held.bytes
    const lane = this.#lanes[laneOf(held.key, this.#lanes.length)]!
    lane.waiting.push(held)
    lane.bytes += held.bytes
    if (!this.#hasRoom()) this.#wakeLanes()
    else if (this.#isReady(lane)) lane.wake?.()
  }

  /** Stops holding entries that are acked. */
  release(entries: Iterable<{ id: string }>): void {
    for (const { id } of entries) {
      this.#bytes -= this.#held.get(id)?.bytes ?? 0
      this.#held.delete(id)
    }
    if (this.#hasRoom()) this.#wakeReaders()
  }

  /** Ends the batches: each lane finishes the batch that it has and hands out no more. */
  close(): void {
    this.#closed = true
    this.#wakeLanes()
    this.#wakeReaders()
  }

  /** Yields the batches of one lane, each when the one before it is finished. */
  async *batches(index: number): AsyncGenerator<Held<E>[]> {
    const lane = this.#lanes[index]!
    while (!this.#closed) {
      if (!this.#isReady(lane)) {
        await new Promise<void>((resolve) => (lane.wake = resolve))
        lane.wake = undefined
      } else if (await this.#lingered(lane)) {
        using turn = this.#turn && (await YieldableTurn.begin(async () => this.#turn!(index)))
        lane.turn = turn
        if (!this.#closed) yield this.#take(lane)
      }
    }
  }

  /**
   * Runs `wait` and returns its result. Meanwhile the other streams that share the lane have its turn. For waits that
   * may never end, such as for PostgreSQL or an operator. See `YieldableTurn`.
   */
  async yieldTurn<T>(index: number, wait: () => Promise<T>): Promise<T> {
    const { turn } = this.#lanes[index]!
    return turn ? await turn.yieldTurn(wait) : await wait()
  }

  #isReady({ waiting, bytes }: Lane<E>): boolean {
    if (waiting.length === 0) return false
    const { batchEvents, batchBytes } = this.#limits
    return (
      !this.#moreToCome || waiting.length >= batchEvents * this.#batchShare() || bytes >= batchBytes || !this.#hasRoom()
    )
  }

  /** Waits a moment if the batch would be small. Returns false when the lanes were closed meanwhile. */
  async #lingered({ waiting }: Lane<E>): Promise<boolean> {
    const { lingerMs, batchEvents } = this.#limits
    if (lingerMs > 0 && waiting.length < batchEvents / 10) {
      await new Promise((resolve) => setTimeout(resolve, lingerMs))
    }
    return !this.#closed
  }

  #take(lane: Lane<E>): Held<E>[] {
    const { batchBytes } = this.#limits
    const batchEvents = this.#limits.batchEvents * this.#batchShare()
    let bytes = 0
    let count = 0
    for (const held of lane.waiting) {
      if (count > 0 && (held.isolated || count >= batchEvents || bytes + held.bytes > batchBytes)) break
      bytes += held.bytes
      count++
      if (held.isolated) break
    }
    lane.bytes -= bytes
    return lane.waiting.splice(0, count)
  }

  #hasRoom(): boolean {
    const { entries, bytes } = this.room
    return entries > 0 && bytes > 0
  }

  #wakeLanes(): void {
    for (const lane of this.#lanes) lane.wake?.()
  }

  #wakeReaders(): void {
    for (const wake of this.#onRoom.splice(0)) wake()
  }
}
