/**
 * How far one upstream has been processed. Frames end in any order. The cursor is the last position before which all
 * frames have ended, and moves only with the append that makes their outcomes durable.
 */
import type { Outcome } from './outcome.ts'

/** One frame's place in the order of its upstream. */
export interface Slot {
  /** Undefined for frames without a position: broken ones, and types that we do not know. */
  readonly seq: number | undefined
  /** When the event happened, as its host says (ISO 8601). */
  readonly time: string | undefined
  /** Set when the frame has ended. */
  outcome?: Outcome
  /** The outcomes of frames directly before this one that were folded into it. */
  folded?: Map<Outcome, number>
}

/** What an append is to store: the new cursor, and how many frames ended with which outcome. */
export interface Advance {
  readonly cursor: number
  /** When the event at the cursor happened. */
  readonly time: string | undefined
  readonly counts: ReadonlyMap<Outcome, number>
  /** How many slots the cursor passes. */
  readonly slots: number
}

/** From this number of slots on, those that have ended are folded. */
const FOLD_SLOTS = 1_024

export class Progress {
  #foldAt = FOLD_SLOTS
  #slots: Slot[] = []
  #head = 0
  #cursor: number | undefined
  #highest: number | undefined

  /** @param cursor the durable one; undefined when there is none */
  constructor(cursor: number | undefined) {
    this.#cursor = cursor
    this.#highest = cursor
  }

  /** The durable cursor; undefined when there is none. */
  get cursor(): number | undefined {
    return this.#cursor
  }

  /** The highest position taken so far: where a new connection of this process goes on. */
  get highest(): number | undefined {
    return this.#highest
  }

  /** How many slots the cursor has not passed. */
  get open(): number {
    return this.#slots.length - this.#head
  }

  /** Takes a frame in. Its `seq` must be higher than all before. */
  take(seq: number | undefined, time?: string): Slot {
    const slot: Slot = { seq, time }
    this.#slots.push(slot)
    if (seq !== undefined) this.#highest = seq
    return slot
  }

  /**
   * A new connection goes on after `highest`. Frames without a position that followed it come again and are counted
   * then.
   */
  reconnect(): void {
    while (this.open > 0 && this.#slots.at(-1)!.seq === undefined) this.#slots.pop()
  }

  /** Begins anew at `position`, because the upstream was set up anew. Frames under way still end, and count. */
  restartAt(position: number): void {
    this.#highest = position
  }

  /**
   * How far all frames have ended, as an append would store it; undefined when that is no further than the cursor.
   * Frames without a position are passed together with the next one that has a position, since a reconnect would bring
   * them again.
   */
  advance(): Advance | undefined {
    const counts = new Map<Outcome, number>()
    let pending: Slot[] = []
    let cursor: number | undefined
    let time: string | undefined
    let slots = 0
    for (let at = this.#head; at < this.#slots.length; at++) {
      const slot = this.#slots[at]!
      const { seq, outcome } = slot
      if (outcome === undefined) break
      pending.push(slot)
      if (seq === undefined) continue
      for (const passed of pending) count(passed, counts)
      pending = []
      cursor = seq
      time = slot.time
      slots = at + 1 - this.#head
    }
    return cursor === undefined ? undefined : { cursor, time, counts, slots }
  }

  /**
   * Folds neighbouring slots that have ended into one, once their outcomes are durable and will not change. Otherwise
   * everything that ends behind one open frame would be kept for as long as a directory is down. So would frames
   * without a position, which `advance` walks each time, until a frame with a position comes. Must not be called
   * between `advance` and `moved`.
   */
  fold(): void {
    if (this.open < this.#foldAt) return
    const kept: Slot[] = []
    for (const slot of this.#slots.slice(this.#head)) {
      while (mayFold(kept.at(-1), slot)) count(kept.pop()!, (slot.folded ??= new Map()))
      kept.push(slot)
    }
    this.#slots = kept
    this.#head = 0
    this.#foldAt = Math.max(FOLD_SLOTS, 2 * kept.length)
  }

  /** What `advance` returned is durable now. */
  moved({ cursor, slots }: Advance): void {
    this.#cursor = cursor
    this.#head += slots
    if (this.#head > 1_024 && this.#head * 2 > this.#slots.length) {
      this.#slots = this.#slots.slice(this.#head)
      this.#head = 0
    }
  }
}

/** A frame without a position is not folded with one before it that has a position: a reconnect brings it again. */
function mayFold(before: Slot | undefined, slot: Slot): boolean {
  if (before?.outcome === undefined || slot.outcome === undefined) return false
  return slot.seq !== undefined || before.seq === undefined
}

/** Counts the outcomes that a slot stands for. It must have ended. */
function count({ folded, outcome }: Slot, counts: Map<Outcome, number>): void {
  if (folded) for (const [each, by] of folded) counts.set(each, (counts.get(each) ?? 0) + by)
  counts.set(outcome!, (counts.get(outcome!) ?? 0) + 1)
}
