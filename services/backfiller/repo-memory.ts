/**
 * The memory of repositories under way, in bytes, for all of them together.
 *
 * Each starts with a share that was reserved before its fetch began. Beyond it all together grow by a part of the whole, each the less the
 * more the others have; blocks that find no room go to a file. What a host has sent stays for hours if it then trickles, and must not be what
 * others need to begin.
 *
 * For what cannot go to a file (the index, 22 to 36 bytes a block) one repository at a time may grow without regard to that, and wait:
 * it gets what the others give back. Another one that would have to gives up, since two could wait for each other. An index that
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
/** Nobody has more than this part of it, and all together do not grow by more. */
const WHOLE_PART = 15 / 16
/** All together grow by these parts of it: by blocks, which leave room for indexes, and by both. With 224 MB the rest is 280 shares, more than there are places. */
const GROWTH_PARTS = { blocks: 1 / 4, index: 3 / 8 }
/** Of what the others leave of that, one may have this part. */
const PART_OF_LEFT = 1 / 4
/** How long one may wait for its index. No other repository begins meanwhile, and the slowest of those that hold what it needs may take two hours. */
const WAIT_MS = 10_000

/** What all repositories share. */
interface Shared {
  whole: Budget
  /** Of it, what they hold beyond their shares. */
  grown: Budget
  /** Whoever grows without regard to the others has this. */
  growing: Budget
  waitMs: number
}

export class RepoMemories {
  readonly #shared: Shared

  constructor(bytes: number, { waitMs = WAIT_MS } = {}) {
    const [whole, grown] = [new Budget(bytes), new Budget(bytes * WHOLE_PART)]
    this.#shared = { whole, grown, growing: new Budget(1), waitMs }
  }

  get usedBytes(): number {
    return this.#shared.whole.used
  }

  /** A share for one more repository, if there is one. */
  tryOpen(): RepoMemory | undefined {
    return this.#shared.whole.tryAcquire(SHARE_BYTES) ? new RepoMemory(this.#shared) : undefined
  }
}

/** What one repository holds. Dispose of it to give all back. */
export class RepoMemory implements Disposable {
  readonly #shared: Shared
  #bytes = SHARE_BYTES
  #isGrowing = false

  constructor(shared: Shared) {
    this.#shared = shared
  }

  get bytes(): number {
    return this.#bytes
  }

  /** What the index of one repository may take. */
  get indexBytesMax(): number {
    return this.#shared.whole.limit * INDEX_PART
  }

  /** Whether `bytes` in all may stay in memory. */
  mayKeep(bytes: number): boolean {
    // First: what is held for the index must not count as room for blocks, or both grow on each other's account.
    if (bytes > this.#shared.whole.limit / BLOCKS_PART) return false
    return bytes <= this.#bytes || this.#tryGrow(bytes, GROWTH_PARTS.blocks)
  }

  /**
   * Accounts for `bytes` in all that are in memory by now, and waits until there is room for them. Whoever needs more than there is
   * gets nearly all of it, and goes on: waiting for the rest would never end.
   * @throws NoRoomError when another repository waits already, or when there is no room in time; an AbortError when the signal aborts first
   */
  async hold(bytes: number, signal: AbortSignal): Promise<void> {
    const counted = Math.min(bytes, this.#shared.whole.limit * WHOLE_PART)
    if (counted <= this.#bytes || this.#tryGrow(counted, GROWTH_PARTS.index)) return
    if (!this.#isGrowing && !this.#shared.growing.tryAcquire(1))
      throw new NoRoomError('little memory is free, and another repository has or waits for what is left')
    this.#isGrowing = true
    await this.#wait(counted - this.#bytes, signal)
    this.#bytes = counted
  }

  /** Grows to `bytes` without waiting, while all have grown by less than `part` of the whole and there is enough for the others. */
  #tryGrow(bytes: number, part: number): boolean {
    const { whole, grown } = this.#shared
    const ofOthers = grown.used - (this.#bytes - SHARE_BYTES)
    if (bytes - SHARE_BYTES > (whole.limit * part - ofOthers) * PART_OF_LEFT) return false
    const more = bytes - this.#bytes
    if (!grown.tryAcquire(more)) return false
    if (!whole.tryAcquire(more)) {
      grown.release(more)
      return false
    }
    this.#bytes = bytes
    return true
  }

  async #wait(more: number, signal: AbortSignal): Promise<void> {
    const { whole, grown, waitMs } = this.#shared
    const giveUp = AbortSignal.any([signal, AbortSignal.timeout(waitMs)])
    try {
      if (!grown.tryAcquire(more)) await grown.acquire(more, giveUp)
      await whole.acquire(more, giveUp).catch((error: unknown) => {
        grown.release(more)
        throw error
      })
    } catch {
      signal.throwIfAborted()
      throw new NoRoomError(`no memory became free within ${waitMs} ms`)
    }
  }

  [Symbol.dispose](): void {
    const { whole, grown, growing } = this.#shared
    whole.release(this.#bytes)
    grown.release(Math.max(0, this.#bytes - SHARE_BYTES))
    if (this.#isGrowing) growing.release(1)
    this.#bytes = 0
    this.#isGrowing = false
  }
}
