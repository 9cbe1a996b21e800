/**
 * How often and how many at once: a concurrency limit, a token bucket, and a bounded queue in front, first come first served.
 *
 * With `concurrencyOfOne` the places are shared between those that have work: one has so many at once at most, and of the queue a sixteenth of the room that is left. Those
 * that have something waiting take turns, so that one waits for the work of others, but never for all that waits of another.
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
}

/** Turned away: nothing was tried, so nothing is known of the other side. */
export class CrowdedError extends TransientError {
  override name = 'CrowdedError'
}

/** Of the room in the queue, that one may take; or one place. */
const PART_OF_ROOM = 16

/** One of those whose work it is; as long as any waits or is under way. */
interface Share {
  waiting: (() => void)[]
  running: number
}

export class Throttle {
  readonly #options: ThrottleOptions
  readonly #now: () => number
  readonly #shares = new Map<string, Share>()
  /** Shares with work that may begin; the next one comes first. */
  readonly #ready = new Set<Share>()
  #waiting = 0
  #running = 0
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
    const { name } = this.#options
    const share = this.#shares.get(whose) ?? { waiting: [], running: 0 }
    if (share.waiting.length >= this.#roomOf(share)) {
      const what = `${name}: ${this.#waiting} requests wait already, ${share.waiting.length} of them of the same`
      throw new CrowdedError(what, { retryAfterMs: 1_000 })
    }
    this.#shares.set(whose, share)
    await new Promise<void>((resolve) => {
      share.waiting.push(resolve)
      this.#waiting++
      this.#line(share)
      this.#pump()
    })
    try {
      return await work()
    } finally {
      this.#running--
      share.running--
      if (share.running === 0 && share.waiting.length === 0) this.#shares.delete(whose)
      this.#line(share)
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
  #roomOf({ waiting }: Share): number {
    const { waiting: all, concurrencyOfOne } = this.#options
    const left = all - (this.#waiting - waiting.length)
    if (concurrencyOfOne === undefined || left <= 0) return left
    return Math.max(1, left / PART_OF_ROOM)
  }

  #line(share: Share): void {
    const { concurrencyOfOne = Infinity } = this.#options
    if (share.waiting.length > 0 && share.running < concurrencyOfOne) this.#ready.add(share)
  }

  #pump(): void {
    const now = this.#now()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#refilledAt) / 1000) * this.#options.perSecond)
    this.#refilledAt = now
    for (const share of this.#ready) {
      if (this.#running >= this.#options.concurrency || this.#tokens < 1 || now < this.#closedUntil) break
      this.#begin(share)
    }
    if (this.#ready.size > 0 && this.#running < this.#options.concurrency && this.#timer === undefined) {
      const tokenMs = Math.max(0, ((1 - this.#tokens) / this.#options.perSecond) * 1000)
      this.#timer = setTimeout(
        () => {
          this.#timer = undefined
          this.#pump()
        },
        Math.max(1, Math.ceil(Math.max(tokenMs, this.#closedUntil - now))),
      )
    }
  }

  /** The next of a share; if it has more, its turn comes again after the others. */
  #begin(share: Share): void {
    this.#ready.delete(share)
    this.#waiting--
    this.#tokens--
    this.#running++
    share.running++
    share.waiting.shift()!()
    this.#line(share)
  }
}
