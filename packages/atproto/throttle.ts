/**
 * Limits how much work runs at once and how often work begins: a concurrency limit (its units are called places), a
 * token bucket, and a bounded queue in front, first come first served.
 *
 * The work can be divided by its owner (`whose` of `run`): the domain or the address of the host that is asked. Owners
 * with waiting work take turns. So the work of one owner waits for some work of others, but never for all the waiting
 * work of another.
 *
 * With `concurrencyOfOne`, one owner has at most so many places, and at most a sixteenth of the free room in the queue.
 *
 * With `concurrencyOfSlow`, the limit of an owner depends on how long its work takes. Most work may be of one owner
 * that is quick (the handles of a large host):
 * - An owner that is not slow may have half of the places that the others leave free.
 * - Work is late when it runs for longer than `lateMs`. An owner becomes slow when `concurrencyOfSlow` of its running
 *   work is late. But not when sixteen times as much of its work ended in time meanwhile: the owner of most work always
 *   has a few late ones in a thousand.
 * - An owner stays slow until a minute after its last late work has ended. Until then it has at most
 *   `concurrencyOfSlow` places. Its work that finds no free place is turned away at once, also work that was waiting
 *   when the owner became slow.
 * - A slow owner whose work is late again is silent: it has no place for a minute or more, and then one
 *   (`slow-owners.ts`).
 *
 * So a slow owner holds half of the places once, then few, and then one for some seconds in four minutes. All slow
 * owners together hold at most half of the places.
 *
 * With both, an owner that is not slow has no more than `concurrencyOfOne`.
 */
import { TransientError } from '@sluice/runtime/errors.ts'
import { SlowOwners } from './slow-owners.ts'

export interface ThrottleOptions {
  /** The name of the limit in messages. */
  name: string
  concurrency: number
  perSecond: number
  /** How much work may wait. More is turned away. */
  waiting: number
  /** The most places of one owner (`whose` of `run`). Default: no limit. */
  concurrencyOfOne?: number
  /**
   * The most places of a slow owner, and how much of an owner's running work must be late to make it slow. No more than
   * `concurrencyOfOne`.
   */
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
/** An owner is not slow when so much work ended in time for each that is late. */
const IN_TIME = 16

interface Waiter {
  /** Tells the work from other work of its owner. */
  work: unknown
  begin: (place: Place) => void
  turnAway: (error: CrowdedError) => void
}

interface Place {
  /** Whose place it is. */
  share: Share
  /** The owner is slow now, and the place counts among those of slow owners. */
  asSlow: boolean
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
  readonly #slow: SlowOwners
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
    this.#slow = new SlowOwners(now)
    this.#tokens = this.#burst
    this.#refilledAt = now()
  }

  /**
   * Calls `work` when its turn comes.
   * @param whose the owner of the work
   * @throws CrowdedError when too many wait, and what `work` throws
   */
  async run<T>(work: () => Promise<T>, whose = ''): Promise<T> {
    const asked = this.#shareOf(whose)
    if (asked.waiting.length >= this.#roomOf(asked)) throw this.#crowded(asked)
    const place = await new Promise<Place>((begin, turnAway) => this.#wait(asked, { work, begin, turnAway }))
    const { share, asSlow } = place
    const ended = this.#timed(place)
    try {
      return await work()
    } finally {
      ended()
      if (share.running >= this.#placesOf(share)) this.#toTheEnd(share)
      this.#running--
      share.running--
      if (asSlow) this.#ofSlow--
      this.#forgetIfIdle(share)
      this.#pump()
    }
  }

  /**
   * Lets `work`, which waits as work of `whose`, wait as work of `other` instead, behind what waits there. Nothing
   * happens when it does not wait (any more), or when too much work of `other` waits.
   */
  move(work: () => Promise<unknown>, whose: string, other: string): void {
    const from = this.#shares.get(whose)
    const at = from?.waiting.findIndex((waiter) => waiter.work === work) ?? -1
    if (from === undefined || at === -1 || whose === other) return
    const to = this.#shareOf(other)
    if (to.waiting.length >= this.#roomOf(to)) return
    const [waiter] = from.waiting.splice(at, 1)
    this.#waiting--
    if (from.waiting.length === 0) this.#ready.delete(from)
    this.#forgetIfIdle(from)
    this.#wait(to, waiter!)
  }

  /** Begins no work for `ms`, because the other side asked for a pause. */
  pause(ms: number): void {
    this.#closedUntil = Math.max(this.#closedUntil, this.#now() + ms)
  }

  /** What is known of an owner. It is stored when work of the owner waits (`#wait`). */
  #shareOf(whose: string): Share {
    return this.#shares.get(whose) ?? { whose, waiting: [], running: 0, late: 0, inTime: 0 }
  }

  #wait(share: Share, waiter: Waiter): void {
    this.#shares.set(share.whose, share)
    share.waiting.push(waiter)
    this.#waiting++
    this.#ready.add(share)
    this.#pump()
  }

  #forgetIfIdle(share: Share): void {
    if (share.running === 0 && share.waiting.length === 0) this.#shares.delete(share.whose)
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
      return Math.min(this.#slow.placesOf(share.whose, concurrencyOfSlow), share.running + Math.max(0, left))
    }
    return Math.min(concurrencyOfOne, Math.max(concurrencyOfSlow, (concurrency - (this.#running - share.running)) / 2))
  }

  #isSlow(share: Share): boolean {
    if (this.#options.concurrencyOfSlow === undefined) return false
    return this.#slow.has(share.whose) || this.#isLate(share)
  }

  #isLate(share: Share): boolean {
    return share.late >= this.#options.concurrencyOfSlow! && isMostlyLate(share)
  }

  /** Watches whether the work that begins now becomes late. @returns a function to call when the work ends */
  #timed({ share, asSlow }: Place): () => void {
    const { concurrencyOfSlow, lateMs = LATE_MS } = this.#options
    if (concurrencyOfSlow === undefined) return () => undefined
    const silentBefore = asSlow ? this.#slow.silentOf(share.whose) : undefined
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      if (share.late++ === 0) share.inTime = 0
      if (this.#isSlow(share)) this.#turnAway(share)
    }, lateMs)
    return () => {
      clearTimeout(timer)
      if (isLate) {
        // Work that waits would wait for minutes, and nothing would tell it.
        if (this.#isSlow(share) && isMostlyLate(share) && this.#slow.late(share.whose, silentBefore))
          this.#turnAway(share)
        share.late--
      } else {
        share.inTime++
        this.#slow.inTime(share.whose)
      }
    }
  }

  /** Turns away all work of an owner that waits. */
  #turnAway(share: Share): void {
    const turnedAway = share.waiting.splice(0)
    this.#waiting -= turnedAway.length
    this.#ready.delete(share)
    for (const { turnAway } of turnedAway) turnAway(this.#crowded(share))
  }

  #crowded(share: Share): CrowdedError {
    const { name } = this.#options
    const { whose, waiting, running } = share
    const what = `${name}: ${this.#waiting} requests wait already, ${waiting.length} of them of the same (${whose}), which has ${running} under way`
    return new CrowdedError(what, { retryAfterMs: this.#isSlow(share) ? this.#slow.closedMs(whose) : 1_000 })
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

  /**
   * The owner whose turn it is. The loop skips owners that are at their limit; there are no more of these than places.
   */
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
    share.waiting.shift()!.begin({ share, asSlow })
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
