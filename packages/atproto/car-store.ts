/**
 * Stores the blocks of a CAR that arrives in pieces: a few large slabs with a compact index. For repository exports.
 *
 * Each block's hash is checked as soon as the block is complete, so hashing overlaps with the download. The memory
 * needed is the size of the CAR or the spool's budget, whichever is less, and 22 to 36 bytes a block. A block that
 * arrives a second time is skipped.
 */
import { BlockIndex } from './block-index.ts'
import { readHeader, readVarint, refuseCar, type CarLimits } from './car.ts'
import { CID_BYTES, hashesTo, isCidAt, type Cid } from './cid.ts'
import { Slabs, type Spool } from './slabs.ts'

export interface StoreLimits extends CarLimits {
  /** The size of the whole CAR. */
  bytes: number
}

const FIRST_SLAB_BYTES = 64 * 1024
const SLAB_BYTES = 4 * 1024 * 1024
/**
 * A slab of at least this size is reused after its content went to the file. A smaller slab is replaced by a larger
 * one.
 */
const AGAIN_BYTES = 256 * 1024
/** The most slabs: the index holds slab numbers in 16 bits. */
const MAX_SLABS = 0xffff
/** The shortest section of a CAR: a length, a CID, and an empty block. */
const LEAST_SECTION_BYTES = 1 + CID_BYTES

/**
 * The blocks of a CAR, numbered in the order of their arrival. Use: `push` all chunks, call `end`, look blocks up,
 * dispose.
 */
export class CarStore implements Disposable {
  #root: Cid | undefined
  #bytes = 0
  /** The number of blocks that arrived, including repeated ones. */
  #came = 0
  #slab: Buffer = Buffer.allocUnsafeSlow(FIRST_SLAB_BYTES)
  #written = 0
  #parsed = 0
  #lastRead = -1
  #lastSection: Buffer = this.#slab
  readonly #limits: StoreLimits
  readonly #slabs: Slabs
  readonly #index = new BlockIndex()

  /** @param spool slabs beyond its memory budget go to a file. Without a spool all slabs stay in memory. */
  constructor(limits: StoreLimits, spool?: Spool) {
    this.#limits = limits
    this.#slabs = new Slabs(spool)
    this.#slabs.add(this.#slab)
  }

  /** Whether the header of the CAR has arrived. */
  get hasHeader(): boolean {
    return this.#root !== undefined
  }

  /** How many bytes have been pushed. */
  get bytes(): number {
    return this.#bytes
  }

  /** The memory that slabs and index take now. */
  get memoryBytes(): number {
    return this.#slabs.memoryBytes + this.#index.memoryBytes
  }

  /** The part of `memoryBytes` that the index takes. */
  get indexBytes(): number {
    return this.#index.memoryBytes
  }

  /**
   * The most memory that the index can take after `bytes` more were pushed. Ask before pushing: the index is large, and
   * doubles when it grows.
   */
  indexBytesAfter(bytes: number): number {
    const blocks = Math.min(1 + Math.floor(bytes / LEAST_SECTION_BYTES), this.#limits.blocks - this.#index.count)
    return this.#index.memoryBytesWith(blocks)
  }

  /** The number of different blocks. */
  get blockCount(): number {
    return this.#index.count
  }

  /** The limits of the store. */
  get limits(): StoreLimits {
    return this.#limits
  }

  /**
   * Takes the next chunk of the CAR. The chunk is copied, so the caller may reuse its memory.
   * @throws RefusedError<CarRefusal | CborRefusal>
   */
  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length
    if (this.#bytes > this.#limits.bytes) throw refuseCar('car-too-large', `more than ${this.#limits.bytes} bytes`)
    let taken = 0
    while (taken < chunk.length) {
      if (this.#written === this.#slab.length) this.#nextSlab()
      const size = Math.min(chunk.length - taken, this.#slab.length - this.#written)
      this.#slab.set(size === chunk.length ? chunk : chunk.subarray(taken, taken + size), this.#written)
      this.#written += size
      taken += size
      this.#parse()
    }
  }

  /**
   * The CID of the root, once the input has ended.
   * @throws RefusedError<CarRefusal> when it ended too early
   */
  end(): Cid {
    if (this.#root === undefined) throw refuseCar('car-truncated', 'no header')
    if (this.#parsed !== this.#written) throw refuseCar('car-truncated', `the input ends inside block ${this.#came}`)
    return this.#root
  }

  /** The number of the block whose CID starts at `at`, or -1. */
  find(bytes: Uint8Array, at: number): number {
    return this.#index.find(this.#index.fingerprintOf(bytes, at), (number) =>
      startsWithCid(this.#section(number), bytes, at),
    )
  }

  findCid(cid: Cid): number {
    return this.find(Buffer.from(cid, 'latin1'), 0)
  }

  /** The bytes of a block: a view of a slab, or a copy read from the spool's file. */
  block(number: number): Buffer {
    return this.#section(number).subarray(CID_BYTES)
  }

  /** The length of a block. The block itself is not read. */
  blockBytes(number: number): number {
    return this.#index.endOf(number) - this.#index.startOf(number) - CID_BYTES
  }

  [Symbol.dispose](): void {
    this.#slabs[Symbol.dispose]()
  }

  /**
   * A block with its CID in front. The last section read is cached, because callers first find a block and then read
   * it.
   */
  #section(number: number): Buffer {
    if (number !== this.#lastRead) {
      const index = this.#index
      this.#lastSection = this.#slabs.read(index.slabOf(number), index.startOf(number), index.endOf(number))
      this.#lastRead = number
    }
    return this.#lastSection
  }

  #parse(): void {
    const slab = this.#slab
    while (this.#parsed < this.#written) {
      const section = readVarint(slab, this.#parsed, this.#written)
      if (section === undefined) return
      const { end: start, value: size } = section
      if (size > this.#limits.blockBytes + CID_BYTES) throw refuseCar('car-block-too-large', `${size} bytes`)
      const end = start + size
      if (end > this.#written) return
      if (this.#root === undefined) this.#root = readHeader(slab.subarray(start, end))
      else this.#add(slab, start, end)
      this.#parsed = end
    }
  }

  #add(slab: Buffer, start: number, end: number): void {
    const count = this.#came++
    if (count >= this.#limits.blocks) throw refuseCar('car-too-many-blocks', `more than ${this.#limits.blocks}`)
    if (end < start + CID_BYTES || !isCidAt(slab, start)) {
      throw refuseCar('car-bad-block', `block ${count} has no CID that a repository may use`)
    }
    if (!hashesTo(slab.subarray(start + CID_BYTES, end), slab, start))
      throw refuseCar('car-wrong-hash', `block ${count}`)
    const index = this.#index
    const fingerprint = index.fingerprintOf(slab, start)
    if (index.find(fingerprint, (number) => this.#isOf(number, slab, start)) !== -1) return
    index.add(fingerprint, this.#slabs.count - 1, start, end)
  }

  /**
   * Whether the block has this CID. Must not use `#section`: the cached view of a slab is wrong once the slab's memory
   * was reused.
   */
  #isOf(number: number, bytes: Uint8Array, at: number): boolean {
    const start = this.#index.startOf(number)
    return startsWithCid(this.#slabs.read(this.#index.slabOf(number), start, start + CID_BYTES), bytes, at)
  }

  /** Seals the full slab. The incomplete section at its end is moved to the start of the next slab. */
  #nextSlab(): void {
    if (this.#slabs.count === MAX_SLABS) throw refuseCar('car-too-large', `more than ${MAX_SLABS} slabs`)
    const rest = Buffer.from(this.#slab.subarray(this.#parsed, this.#written))
    const section = readVarint(rest, 0)
    const needed = section === undefined ? 0 : section.end + section.value
    const size = Math.max(Math.min(this.#slab.length * 2, SLAB_BYTES), needed, rest.length * 2)
    const free = this.#slabs.seal(this.#parsed, size)
    const again = free !== undefined && free.length >= Math.max(AGAIN_BYTES, needed, rest.length * 2)
    this.#slab = again ? free : Buffer.allocUnsafeSlow(size)
    this.#slab.set(rest)
    this.#written = rest.length
    this.#parsed = 0
    this.#slabs.add(this.#slab)
  }
}

function startsWithCid(section: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let i = CID_BYTES - 1; i >= 0; i--) if (section[i] !== bytes[at + i]) return false
  return true
}
