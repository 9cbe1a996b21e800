/**
 * How often and how many at once: a concurrency limit, a token bucket, and a bounded queue in front, first come first served.
 */
import { TransientError } from '@sluice/runtime/errors.ts'

export interface ThrottleOptions {
  /** Names the limit in messages. */
  name: string
  concurrency: number
  perSecond: number
  /** How many may wait; one more is turned away. */
  waiting: number
}

/** Turned away: nothing was tried, so nothing is known of the other side. */
export class CrowdedError extends TransientError {
  override name = 'CrowdedError'
}

export class Throttle {
  readonly #options: ThrottleOptions
  readonly #now: () => number
  readonly #queue: (() => void)[] = []
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
   * @throws CrowdedError when too many wait, and what `work` throws
   */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#queue.length >= this.#options.waiting) {
      throw new CrowdedError(`${this.#options.name}: ${this.#queue.length} requests wait already`, {
        retryAfterMs: 1_000,
      })
    }
    await new Promise<void>((resolve) => {
      this.#queue.push(resolve)
      this.#pump()
    })
    try {
      return await work()
    } finally {
      this.#running--
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

  #pump(): void {
    const now = this.#now()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#refilledAt) / 1000) * this.#options.perSecond)
    this.#refilledAt = now
    while (
      this.#queue.length > 0 &&
      this.#running < this.#options.concurrency &&
      this.#tokens >= 1 &&
      now >= this.#closedUntil
    ) {
      this.#tokens--
      this.#running++
      this.#queue.shift()!()
    }
    if (this.#queue.length > 0 && this.#running < this.#options.concurrency && this.#timer === undefined) {
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
}
