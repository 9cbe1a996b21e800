/**
 * Remembers which owners of work are slow, and which of these are silent (`throttle.ts` says when an owner becomes
 * slow).
 *
 * - An owner stays slow for a minute after its last late work has ended.
 * - A slow owner whose work is late again is silent. It has no place for a minute, and then one. Each time that the
 *   work in this place is late as well, it is without a place for twice as long, up to four minutes. Each work that
 *   ends in time makes up for one such time, and lets the next one begin at once; an owner that has made up for all of
 *   them is only slow.
 */
import { remember } from '@sluice/runtime/remember.ts'

/** For so long an owner stays slow after its last late work has ended. */
const SLOW_MS = 60_000
/**
 * The longest time for which a silent owner has no place. It is also how long a large domain may wait after an outage
 * of our own network.
 */
const SILENT_MS_MAX = 240_000
const NOT_SLOW: Slow = { untilMs: -Infinity, silent: 0 }
/** How many slow owners are remembered; about 100 bytes each. */
const REMEMBERED = 10_000

/** An owner that is slow, or was of late. */
interface Slow {
  /** Until when it is slow; with `silent`, until when it has no place (ms, monotonic clock). */
  untilMs: number
  /** How often its work was late again while it was slow, less what it has made up for. More than 0: it is silent. */
  silent: number
}

export class SlowOwners {
  readonly #now: () => number
  /** The latest at the end. */
  readonly #slow = new Map<string, Slow>()

  /** @param now a monotonic clock, in ms */
  constructor(now: () => number) {
    this.#now = now
  }

  has(whose: string): boolean {
    const { silent, untilMs } = this.#of(whose)
    return silent > 0 || untilMs > this.#now()
  }

  /** How often the work of an owner was late again, less what it has made up for; 0 when the owner is not silent. */
  silentOf(whose: string): number {
    return this.#of(whose).silent
  }

  /**
   * How many places a slow owner may have.
   * @param placesOfSlow of an owner that is not silent
   */
  placesOf(whose: string, placesOfSlow: number): number {
    const { silent, untilMs } = this.#of(whose)
    if (silent === 0) return placesOfSlow
    return untilMs > this.#now() ? 0 : 1
  }

  /** After how long it is worth while to ask again for a place: a minute, or when the owner has one again. */
  closedMs(whose: string): number {
    const { silent, untilMs } = this.#of(whose)
    return silent === 0 ? SLOW_MS : Math.max(SLOW_MS, Math.ceil(untilMs - this.#now()))
  }

  /**
   * Late work of a slow owner has ended.
   * @param silentBefore `silentOf` when the work began; undefined when the owner was not slow then. Of all late work
   * that was under way at the same time one counts
   * @returns whether this has made the owner silent, or silent for longer
   */
  late(whose: string, silentBefore: number | undefined): boolean {
    const { silent, untilMs } = this.#of(whose)
    const isAgain = silent === silentBefore
    if (silent > 0 && !isAgain) return false
    const rounds = isAgain ? silent + 1 : 0
    const waitMs = Math.min(SILENT_MS_MAX, SLOW_MS * 2 ** Math.max(0, rounds - 1))
    const slow = { untilMs: Math.max(untilMs, this.#now() + waitMs), silent: rounds }
    remember(this.#slow, whose, slow, REMEMBERED)
    return rounds > 0
  }

  /** Work of an owner has ended in time. */
  inTime(whose: string): void {
    const { silent } = this.#of(whose)
    if (silent === 0) return
    const untilMs = this.#now() + (silent === 1 ? SLOW_MS : 0)
    remember(this.#slow, whose, { untilMs, silent: silent - 1 }, REMEMBERED)
  }

  #of(whose: string): Slow {
    return this.#slow.get(whose) ?? NOT_SLOW
  }
}
