/**
 * Bounds what is in flight, in bytes or in pieces. A caller acquires the size of what it takes in, and releases it when
 * it is done. First come, first served, so that a large request is not starved by small ones.
 *
 * A request that is larger than the whole budget is let through when nothing else is in flight: one frame may have any
 * size, but not two at a time.
 */
import { FatalError } from './errors.ts'

interface Waiter {
  readonly amount: number
  readonly admit: () => void
}

export class Budget {
  readonly limit: number
  #used = 0
  /** In order of arrival. A Set, because a waiter that aborts may leave from any position. */
  readonly #waiters = new Set<Waiter>()

  constructor(limit: number) {
    if (!(limit > 0)) throw new FatalError(`a budget of ${limit} admits nothing`)
    this.limit = limit
  }

  get used(): number {
    return this.#used
  }

  /** How many requests wait; never more than there are callers. */
  get waiting(): number {
    return this.#waiters.size
  }

  /** Takes the amount if it is free right now and nobody waits. */
  tryAcquire(amount: number): boolean {
    if (this.#waiters.size > 0 || !this.#fits(amount)) return false
    this.#used += amount
    return true
  }

  /**
   * Takes the amount as soon as it is free and all earlier callers have theirs.
   * @throws an AbortError when the signal aborts first; nothing is taken then
   */
  async acquire(amount: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.tryAcquire(amount)) return
    const admitted = Promise.withResolvers<void>()
    const waiter: Waiter = { amount, admit: admitted.resolve }
    const leave = () => {
      this.#waiters.delete(waiter)
      // This has no effect on a request that was admitted a moment ago: its caller has the amount, and will release it.
      admitted.reject(signal.reason)
      this.#admit()
    }
    this.#waiters.add(waiter)
    signal.addEventListener('abort', leave, { once: true })
    try {
      await admitted.promise
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }

  /**
   * Gives back an amount that was acquired.
   * @throws FatalError for more than is in use, since a second release of the same amount would lift the bound
   */
  release(amount: number): void {
    if (amount > this.#used) throw new FatalError(`released ${amount} of a budget of which ${this.#used} are in use`)
    this.#used -= amount
    this.#admit()
  }

  #admit(): void {
    for (const waiter of this.#waiters) {
      if (!this.#fits(waiter.amount)) return
      this.#waiters.delete(waiter)
      this.#used += waiter.amount
      waiter.admit()
    }
  }

  #fits(amount: number): boolean {
    return this.#used === 0 || this.#used + amount <= this.limit
  }
}
