/**
 * How often and how many at once: a concurrency limit, a token bucket, and a bounded queue in front, first come first served.
 *
 * With `concurrencyOfOne` the places are shared between those that have work: one has so many at once at most, and of the queue a sixteenth of the room that is left. Those
 * that have something waiting take turns, so that one waits for the work of others, but never for all that waits of another.
 *
 * With `concurrencyOfSlow` it depends on how long the work takes, since most of it may be one's, who is quick: such a one has half of the places that the others leave. Who has
 * so many under way that are late is slow, unless far more of its work ended in time meanwhile: a few in a thousand are late with whom has most of it. Until a minute after the last of them has ended, that
 * many is all that is begun of it, and what finds no place is turned away at once, with what waited for one. So one who is slow holds half of the places once, and then few; and all who are slow hold half of
 * the places together.
 */
import { TransientError } from '@sluice/runtime/errors.ts'

export interface ThrottleOptions {
  /** Names the limit in messages. */
  name: string
  concurrency: number
  perSecond: number
  /** How many may wait; one more is turned away. */
  waiting: number
  /** How many at once of one (`whose` of `run`); default: whoever comes first has all. */
  concurrencyOfOne?: number
  /** How many at once of one who is slow, and how many of its must be late for that; not with `concurrencyOfOne`. */
  concurrencyOfSlow?: number
  /** After so long what is under way is late. */
  lateMs?: number
}

/** Turned away: nothing was tried, so nothing is known of the other side. */
export class CrowdedError extends TransientError {
  override name = 'CrowdedError'
}

/** Of the room in the queue, that one may take; or one place. */
const PART_OF_ROOM = 16
/** By default: more than an answer takes on a bad day of the other side. */
const LATE_MS = 3_000
/** After its last late work ended one is slow. */
const SLOW_MS = 60_000
/** Of those that are slow; about 100 bytes each. */
const REMEMBERED = 10_000
/** So many in time for each that is late, and one is not slow. */
const IN_TIME = 16

interface Waiter {
  /** Told whether it is begun as of one who is slow. */
  begin: (asSlow: boolean) => void
  turnAway: (error: CrowdedError) => void
}

/** One of those whose work it is; as long as any waits or is under way. */
interface Share {
  readonly whose: string
  waiting: Waiter[]
  running: number
  /** Of what is under way. */
  late: number
  /** That ended in time since the first of these was late. */
  inTime: number
}

export class Throttle {
  readonly #options: ThrottleOptions
  readonly #now: () => number
  readonly #shares = new Map<string, Share>()
  /** Shares with work that waits; the next one comes first. */
  readonly #ready = new Set<Share>()
  /** Until when each is slow (ms, monotonic); the latest at the end. */
  readonly #slow = new Map<string, number>()
  #waiting = 0
  #running = 0
  /** Of what is under way, what was begun as of one who is slow. */
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
   * @param whose of which no more than `concurrencyOfOne` is under way at once
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

  /** Starts nothing for `ms`: the other side has asked for it. */
  pause(ms: number): void {
    this.#closedUntil = Math.max(this.#closedUntil, this.#now() + ms)
  }

  /** A second's worth, so that a quiet time does not turn into a flood. */
  get #burst(): number {
    return Math.max(1, this.#options.perSecond)
  }

  /** How many of one may wait now. */
  #roomOf(share: Share): number {
    const { waiting: all, concurrencyOfOne } = this.#options
    if (this.#isSlow(share)) return share.running < this.#placesOf(share) ? 1 : 0
    const left = all - (this.#waiting - share.waiting.length)
    if (concurrencyOfOne === undefined || left <= 0) return left
    return Math.max(1, left / PART_OF_ROOM)
  }

  /** How many of one may be under way now. */
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

  /** Notices when the work that begins now is late. @returns to be called at its end */
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
      if (this.#isSlow(share) && isMostlyLate(share)) this.#remember(share.whose)
      share.late--
    }
  }

  #remember(whose: string): void {
    this.#slow.delete(whose)
    this.#slow.set(whose, this.#now() + SLOW_MS)
    if (this.#slow.size > REMEMBERED) this.#slow.delete(this.#slow.keys().next().value!)
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

  /** Whose turn it is. At their limit are no more than there are places. */
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

  /** The next of a share; if it has more, its turn comes again after the others. */
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

  /** After all that wait, of those that may begin too. */
  #toTheEnd(share: Share): void {
    this.#ready.delete(share)
    if (share.waiting.length > 0) this.#ready.add(share)
  }
}

function isMostlyLate({ late, inTime }: Share): boolean {
  return inTime < IN_TIME * late
}
