/**
 * Limits how much work runs at once and how often work begins: a concurrency limit (its units are called places), a token bucket, and a bounded queue in front, first come first served.
 *
 * The work can be divided by its owner (`whose` of `run`): the domain or the address of the host that is asked. Owners with waiting work take turns. So the work of one owner waits for some work of
 * others, but never for all the waiting work of another.
 *
 * With `concurrencyOfOne`, one owner has at most so many places, and at most a sixteenth of the free room in the queue.
 *
 * With `concurrencyOfSlow`, the limit of an owner depends on how long its work takes. Most work may be of one owner that is quick (the handles of a large host):
 * - An owner that is not slow may have half of the places that the others leave free.
 * - Work is late when it runs for longer than `lateMs`. An owner becomes slow when `concurrencyOfSlow` of its running work is late. But not when sixteen times as much of its work ended in time meanwhile: the
 *   owner of most work always has a few late ones in a thousand.
 * - An owner stays slow until a minute after its last late work has ended. Until then it has at most `concurrencyOfSlow` places. Its work that finds no free place is turned away at once, also work that was
 *   waiting when the owner became slow.
 *
 * So a slow owner holds half of the places once, and then few. All slow owners together hold at most half of the places.
 */
import { TransientError } from '@sluice/runtime/errors.ts'
import { remember } from '@sluice/runtime/remember.ts'

export interface ThrottleOptions {
  /** The name of the limit in messages. */
  name: string
  concurrency: number
  perSecond: number
  /** How much work may wait. More is turned away. */
  waiting: number
  /** The most places of one owner (`whose` of `run`). Default: no limit. */
  concurrencyOfOne?: number
  /** The most places of a slow owner, and how much of an owner's running work must be late to make it slow. Not together with `concurrencyOfOne`. */
  concurrencyOfSlow?: number
  /** Work that runs for longer is late. */
  lateMs?: number
}

/** The work was turned away and has not begun. So it says nothing about the other side. */
export class CrowdedError extends TransientError {
  override name = 'CrowdedError'
}

/** One owner may take a sixteenth of the free room in the queue, but at least room for one. */
const PART_OF_ROOM = 16
/** The default of `lateMs`: longer than an answer takes on a bad day of the other side. */
const LATE_MS = 3_000
/** For so long an owner stays slow after its last late work has ended. */
const SLOW_MS = 60_000
/** How many slow owners are remembered; about 100 bytes each. */
const REMEMBERED = 10_000
/** An owner is not slow when so much work ended in time for each that is late. */
const IN_TIME = 16

interface Waiter {
  /** Begins the work. `asSlow`: the owner is slow now, and the place counts among those of slow owners. */
  begin: (asSlow: boolean) => void
  turnAway: (error: CrowdedError) => void
}

/** The state of one owner. Exists while any of its work waits or runs. */
interface Share {
  readonly whose: string
  waiting: Waiter[]
  running: number
  /** How much of the running work is late. */
  late: number
  /** How much work has ended in time since the first of the late ones became late. */
  inTime: number
}

export class Throttle {
  readonly #options: ThrottleOptions
  readonly #now: () => number
  readonly #shares = new Map<string, Share>()
  /** Owners with waiting work; the one whose turn is next comes first. */
  readonly #ready = new Set<Share>()
  /** Until when each owner is slow (ms, monotonic clock); the latest at the end. */
  readonly #slow = new Map<string, number>()
  #waiting = 0
  #running = 0
  /** How much of the running work was begun while its owner was slow. */
  #ofSlow = 0
  #tokens: number
  #refilledAt: number
  #closedUntil = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: ThrottleOptions, { now = () => performance.now() } = {}) {
    this.#options = options
    this.#now = now
    this.#tokens = this.#burst
    this.#refilledAt = now()
  }

  /**
   * Calls `work` when its turn comes.
   * @param whose the owner of the work
   * @throws CrowdedError when too many wait, and what `work` throws
   */
  async run<T>(work: () => Promise<T>, whose = ''): Promise<T> {
    const share = this.#shares.get(whose) ?? { whose, waiting: [], running: 0, late: 0, inTime: 0 }
    if (share.waiting.length >= this.#roomOf(share)) throw this.#crowded(share)
    this.#shares.set(whose, share)
    const asSlow = await new Promise<boolean>((begin, turnAway) => {
      share.waiting.push({ begin, turnAway })
      this.#waiting++
      this.#ready.add(share)
      this.#pump()
    })
    const ended = this.#timed(share)
    try {
      return await work()
    } finally {
      ended()
      if (share.running >= this.#placesOf(share)) this.#toTheEnd(share)
      this.#running--
      share.running--
      if (asSlow) this.#ofSlow--
      if (share.running === 0 && share.waiting.length === 0) this.#shares.delete(whose)
      this.#pump()
    }
  }

  /** Begins no work for `ms`, because the other side asked for a pause. */
  pause(ms: number): void {
    this.#closedUntil = Math.max(this.#closedUntil, this.#now() + ms)
  }

  /** The most tokens: those of one second, so that a quiet time is not followed by a flood. */
  get #burst(): number {
    return Math.max(1, this.#options.perSecond)
  }

  /** How much work of this owner may wait now. */
  #roomOf(share: Share): number {
    const { waiting: all, concurrencyOfOne } = this.#options
    if (this.#isSlow(share)) return share.running < this.#placesOf(share) ? 1 : 0
    const left = all - (this.#waiting - share.waiting.length)
    if (concurrencyOfOne === undefined || left <= 0) return left
    return Math.max(1, left / PART_OF_ROOM)
  }

  /** How many places this owner may have now. */
  #placesOf(share: Share): number {
    const { concurrency, concurrencyOfOne = Infinity, concurrencyOfSlow } = this.#options
    if (concurrencyOfSlow === undefined) return concurrencyOfOne
    if (this.#isSlow(share)) {
      const left = Math.max(1, Math.floor(concurrency / 2)) - this.#ofSlow
      return Math.min(concurrencyOfSlow, share.running + Math.max(0, left))
    }
    return Math.max(concurrencyOfSlow, (concurrency - (this.#running - share.running)) / 2)
  }

  #isSlow(share: Share): boolean {
    if (this.#options.concurrencyOfSlow === undefined) return false
    return this.#isLate(share) || (this.#slow.get(share.whose) ?? -Infinity) > this.#now()
  }

  #isLate(share: Share): boolean {
    return share.late >= this.#options.concurrencyOfSlow! && isMostlyLate(share)
  }

  /** Watches whether the work that begins now becomes late. @returns a function to call when the work ends */
  #timed(share: Share): () => void {
    const { concurrencyOfSlow, lateMs = LATE_MS } = this.#options
    if (concurrencyOfSlow === undefined) return () => undefined
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      if (share.late++ === 0) share.inTime = 0
      if (!this.#isSlow(share)) return
      const turnedAway = share.waiting.splice(0)
      this.#waiting -= turnedAway.length
      this.#ready.delete(share)
      for (const { turnAway } of turnedAway) turnAway(this.#crowded(share))
    }, lateMs)
    return () => {
      clearTimeout(timer)
      if (!isLate) {
        share.inTime++
        return
      }
      if (this.#isSlow(share) && isMostlyLate(share))
        remember(this.#slow, share.whose, this.#now() + SLOW_MS, REMEMBERED)
      share.late--
    }
  }

  #crowded(share: Share): CrowdedError {
    const { name } = this.#options
    const { whose, waiting, running } = share
    const what = `${name}: ${this.#waiting} requests wait already, ${waiting.length} of them of the same (${whose}), which has ${running} under way`
    return new CrowdedError(what, { retryAfterMs: this.#isSlow(share) ? SLOW_MS : 1_000 })
  }

  #pump(): void {
    const now = this.#now()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#refilledAt) / 1000) * this.#options.perSecond)
    this.#refilledAt = now
    for (let share = this.#next(); share !== undefined; share = this.#next()) {
      if (this.#tokens < 1 || now < this.#closedUntil) return this.#pumpLater(now)
      this.#begin(share)
    }
  }

  /** The owner whose turn it is. The loop skips owners that are at their limit; there are no more of these than places. */
  #next(): Share | undefined {
    if (this.#running >= this.#options.concurrency) return undefined
    for (const share of this.#ready) if (share.running < this.#placesOf(share)) return share
    return undefined
  }

  #pumpLater(now: number): void {
    if (this.#timer !== undefined) return
    const tokenMs = Math.max(0, ((1 - this.#tokens) / this.#options.perSecond) * 1000)
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        this.#pump()
      },
      Math.max(1, Math.ceil(Math.max(tokenMs, this.#closedUntil - now))),
    )
  }

  /** Begins the next work of an owner. If more of its work waits, its next turn comes after those of the others. */
  #begin(share: Share): void {
    this.#waiting--
    this.#tokens--
    this.#running++
    share.running++
    const asSlow = this.#isSlow(share)
    if (asSlow) this.#ofSlow++
    share.waiting.shift()!.begin(asSlow)
    this.#toTheEnd(share)
  }

  /** Moves the owner to the end of the turns, or out of them when no work of it waits. */
  #toTheEnd(share: Share): void {
    this.#ready.delete(share)
    if (share.waiting.length > 0) this.#ready.add(share)
  }
}

function isMostlyLate({ late, inTime }: Share): boolean {
  return inTime < IN_TIME * late
}
