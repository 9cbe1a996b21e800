/**
 * The memory of repositories under way, in bytes, for all of them together.
 *
 * Each repository begins with a share that was reserved before its fetch began. Beyond their shares, all together may
 * grow by a part of the whole: the more the others have grown, the less one may grow. Blocks that find no room go to a
 * file. A host that sends much and then trickles keeps its repository's memory for hours, and that must not be memory
 * that others need to begin.
 *
 * The index cannot go to a file (22 to 36 bytes a block). For its index, one repository at a time may grow without
 * regard to the others, and may wait for the memory that they give back. Another repository that would have to wait
 * gives up, since two could wait for each other. An index that would not fit even alone is more than a repository may
 * have (`indexBytesMax`).
 */
import { NoRoomError } from '@sluice/atproto/slabs.ts'
import { Budget } from '@sluice/runtime/budget.ts'

/** Enough for a repository of 400 kB, which nine of ten do not exceed. */
export const SHARE_BYTES = 512 * 1024
/**
 * The blocks of one repository take at most a sixteenth of the whole, so that there is room for the indexes of many.
 */
const BLOCKS_PART = 16
/**
 * The index of one repository takes at most this part of the whole. The rest is for its blocks and for the slab that is
 * being written.
 */
const INDEX_PART = 7 / 8
/** No repository has more than this part of the whole, and all together do not grow by more. */
const WHOLE_PART = 15 / 16
/**
 * By what part of the whole all together may grow beyond their shares. `blocks`: the limit for growth by blocks, which
 * leaves room for indexes. `index`: the limit for growth by both. With 224 MB the rest of the whole is 280 shares: more
 * than there are places.
 */
const GROWTH_PARTS = { blocks: 1 / 4, index: 3 / 8 }
/** One repository may have this part of the growth that the others leave. */
const PART_OF_LEFT = 1 / 4
/**
 * How long a repository may wait for memory for its index. No other repository begins meanwhile. The slowest of those
 * that hold the memory may take two hours, which is too long to wait.
 */
const WAIT_MS = 10_000

/** The memory that all repositories share. */
interface Shared {
  whole: Budget
  /** The part of `whole` that repositories hold beyond their shares. */
  grown: Budget
  /** Held by the repository that grows without regard to the others. */
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

  /** Reserves a share for one more repository; undefined when there is no room. */
  tryOpen(): RepoMemory | undefined {
    return this.#shared.whole.tryAcquire(SHARE_BYTES) ? new RepoMemory(this.#shared) : undefined
  }
}

/** The memory of one repository. Disposing of it gives all of it back. */
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

  /** The most bytes that the index of one repository may take. */
  get indexBytesMax(): number {
    return this.#shared.whole.limit * INDEX_PART
  }

  /** Whether blocks of `bytes` in all may stay in memory. */
  mayKeep(bytes: number): boolean {
    // This limit comes first, since memory held for the index must not count as room for blocks: otherwise blocks and
    // index would each grow on account of the other.
    if (bytes > this.#shared.whole.limit / BLOCKS_PART) return false
    return bytes <= this.#bytes || this.#tryGrow(bytes, GROWTH_PARTS.blocks)
  }

  /**
   * Accounts for `bytes`, which is all that the repository has in memory by now, and waits until there is room for it.
   * A repository that needs more than there is gets nearly all of it, and goes on: waiting for the rest would never
   * end.
   * @throws NoRoomError when another repository waits already, or when there is no room in time; an AbortError when the
   * signal aborts first
   */
  async hold(bytes: number, signal: AbortSignal): Promise<void> {
    const counted = Math.min(bytes, this.#shared.whole.limit * WHOLE_PART)
    if (counted <= this.#bytes || this.#tryGrow(counted, GROWTH_PARTS.index)) return
    if (!this.#isGrowing && !this.#shared.growing.tryAcquire(1))
      throw new NoRoomError('no memory is free for this repository: another large one has it, or waits for it')
    this.#isGrowing = true
    await this.#wait(counted - this.#bytes, signal)
    this.#bytes = counted
  }

  /**
   * Grows to `bytes` without waiting. False, and nothing has changed, when that is more than one repository may have of
   * the growth that the others leave (`part` of the whole, for all), or when so much is not free.
   */
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
