/**
 * A CAR that arrives in pieces → its blocks in a few large slabs with a compact index. For repository exports.
 *
 * Every block's hash is checked as soon as the block is whole, so that the work runs beside the network. Memory is the
 * CAR's own size or the spool's budget, whichever is less, and 22 to 36 bytes a block. A block that comes again is passed over.
 */
import { BlockIndex } from './block-index.ts'
import { readHeader, readVarint, refuseCar, type CarLimits } from './car.ts'
import { CID_BYTES, hashesTo, isCidAt, type Cid } from './cid.ts'
import { Slabs, type Spool } from './slabs.ts'

export interface StoreLimits extends CarLimits {
  /** The whole CAR. */
  bytes: number
}

const FIRST_SLAB_BYTES = 64 * 1024
const SLAB_BYTES = 4 * 1024 * 1024
/** A slab of this size whose content went to the file is used again, instead of a larger one. */
const AGAIN_BYTES = 256 * 1024
/** Of them: slab numbers are 16 bits. */
const MAX_SLABS = 0xffff
/** The shortest block: a length, a CID, nothing. */
const LEAST_SECTION_BYTES = 1 + CID_BYTES

/** The blocks of a CAR, known by the order in which they came. Push chunks, then `end()`, then look up; then dispose. */
export class CarStore implements Disposable {
  #root: Cid | undefined
  #bytes = 0
  /** Blocks that came, repeated ones too. */
  #came = 0
  #slab: Buffer = Buffer.allocUnsafeSlow(FIRST_SLAB_BYTES)
  #written = 0
  #parsed = 0
  #lastRead = -1
  #lastSection: Buffer = this.#slab
  readonly #limits: StoreLimits
  readonly #slabs: Slabs
  readonly #index = new BlockIndex()

  /** @param spool what exceeds its budget goes to a file; without one, all stays in memory */
  constructor(limits: StoreLimits, spool?: Spool) {
    this.#limits = limits
    this.#slabs = new Slabs(spool)
    this.#slabs.add(this.#slab)
  }

  /** Whether the header of a CAR has come. */
  get hasHeader(): boolean {
    return this.#root !== undefined
  }

  /** Bytes taken so far. */
  get bytes(): number {
    return this.#bytes
  }

  /** What is held in memory now: slabs and index. */
  get memoryBytes(): number {
    return this.#slabs.memoryBytes + this.#index.memoryBytes
  }

  /** Of that, the index. */
  get indexBytes(): number {
    return this.#index.memoryBytes
  }

  /** The most that the index takes once `bytes` more were pushed: it doubles, and is large. */
  indexBytesAfter(bytes: number): number {
    const blocks = Math.min(1 + Math.floor(bytes / LEAST_SECTION_BYTES), this.#limits.blocks - this.#index.count)
    return this.#index.memoryBytesWith(blocks)
  }

  /** Different blocks. */
  get blockCount(): number {
    return this.#index.count
  }

  /** The limits of the store. */
  get limits(): StoreLimits {
    return this.#limits
  }

  /**
   * Takes a chunk, which may be used again afterwards.
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

  /** A block: a view, or a copy from the spool. */
  block(number: number): Buffer {
    return this.#section(number).subarray(CID_BYTES)
  }

  /** The length of a block, which is not read for that. */
  blockBytes(number: number): number {
    return this.#index.endOf(number) - this.#index.startOf(number) - CID_BYTES
  }

  [Symbol.dispose](): void {
    this.#slabs[Symbol.dispose]()
  }

  /** A block with its CID in front. The last one is kept: it is asked for to be found, and again to be read. */
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

  /** Not by `#section`, whose view of a slab does not outlive the slab's way to the file. */
  #isOf(number: number, bytes: Uint8Array, at: number): boolean {
    const start = this.#index.startOf(number)
    return startsWithCid(this.#slabs.read(this.#index.slabOf(number), start, start + CID_BYTES), bytes, at)
  }

  /** A full slab is sealed; the section that it ends in starts the next one. */
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
