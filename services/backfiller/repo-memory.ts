/**
 * The memory of repositories under way, in bytes, for all of them together.
 *
 * Each starts with a share that was reserved before its fetch began. More is granted while there is some; otherwise its
 * blocks go to a file. For what cannot go to a file (the index, 22 to 36 bytes a block) one repository at a time may wait:
 * it gets what the others give back. Another one that would have to wait gives up, since two could wait for each other. An index that
 * would not fit even alone is more than a repository may have (`indexBytesMax`).
 */
import { NoRoomError } from '@sluice/atproto/slabs.ts'
import { Budget } from '@sluice/runtime/budget.ts'

/** Holds a repository of 400 kB without asking again: nine of ten. */
export const SHARE_BYTES = 512 * 1024
/** The blocks of one repository take at most this part of the whole, so that there is room for the indexes of many. */
const BLOCKS_PART = 16
/** And this part of it can be had by the index of one, beside its blocks and the slab that is being written. */
const INDEX_PART = 7 / 8
/** How long one may wait for its index. No other repository begins meanwhile, and the slowest of those that hold what it needs may take two hours. */
const WAIT_MS = 10_000

export class RepoMemories {
  readonly #budget: Budget
  /** Whoever waits for more has this. */
  readonly #growing = new Budget(1)
  readonly #waitMs: number

  constructor(bytes: number, { waitMs = WAIT_MS } = {}) {
    this.#budget = new Budget(bytes)
    this.#waitMs = waitMs
  }

  get usedBytes(): number {
    return this.#budget.used
  }

  /** A share for one more repository, if there is one. */
  tryOpen(): RepoMemory | undefined {
    return this.#budget.tryAcquire(SHARE_BYTES) ? new RepoMemory(this.#budget, this.#growing, this.#waitMs) : undefined
  }
}

/** What one repository holds. Dispose of it to give all back. */
export class RepoMemory implements Disposable {
  readonly #budget: Budget
  readonly #growing: Budget
  readonly #waitMs: number
  #bytes = SHARE_BYTES
  #isGrowing = false

  constructor(budget: Budget, growing: Budget, waitMs: number) {
    this.#budget = budget
    this.#growing = growing
    this.#waitMs = waitMs
  }

  get bytes(): number {
    return this.#bytes
  }

  /** What the index of one repository may take. */
  get indexBytesMax(): number {
    return this.#budget.limit * INDEX_PART
  }

  /** Whether `bytes` in all may stay in memory. */
  mayKeep(bytes: number): boolean {
    // First: what is held for the index must not count as room for blocks, or both grow on each other's account.
    if (bytes > this.#budget.limit / BLOCKS_PART) return false
    if (bytes <= this.#bytes) return true
    if (!this.#budget.tryAcquire(bytes - this.#bytes)) return false
    this.#bytes = bytes
    return true
  }

  /**
   * Accounts for `bytes` in all that are in memory by now, and waits until there is room for them. Whoever needs more than there is
   * gets all of it, and goes on alone: waiting for the rest would never end.
   * @throws NoRoomError when another repository waits already, or when there is no room in time; an AbortError when the signal aborts first
   */
  async hold(bytes: number, signal: AbortSignal): Promise<void> {
    const counted = Math.min(bytes, this.#budget.limit)
    const more = counted - this.#bytes
    if (more <= 0) return
    if (!this.#budget.tryAcquire(more)) {
      if (!this.#isGrowing && !this.#growing.tryAcquire(1))
        throw new NoRoomError('no memory is free, and another repository waits for some already')
      this.#isGrowing = true
      await this.#wait(more, signal)
    }
    this.#bytes = counted
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    const giveUp = AbortSignal.any([signal, AbortSignal.timeout(this.#waitMs)])
    try {
      await this.#budget.acquire(bytes, giveUp)
    } catch {
      signal.throwIfAborted()
      throw new NoRoomError(`no memory became free within ${this.#waitMs} ms`)
    }
  }

  [Symbol.dispose](): void {
    this.#budget.release(this.#bytes)
    if (this.#isGrowing) this.#growing.release(1)
    this.#bytes = 0
    this.#isGrowing = false
  }
}
