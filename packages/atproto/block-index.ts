/**
 * Maps the CID of a block to the block's place in the slabs: a hash table with open addressing, in typed arrays. It
 * takes 22 to 36 bytes a block; a `Map` from CID to view took 190.
 *
 * The hash is the start of the CID's digest, mixed with a secret random number. Without that number, an attacker could
 * search for blocks whose digests begin alike: with 100,000 such blocks, linear probing takes a minute. The caller must
 * not add the same block twice.
 */
import { randomBytes } from 'node:crypto'

const FIRST_BLOCKS = 256
const FIRST_SLOTS = 512
/** The size of a block's entry without its slots in the table: fingerprint, slab, start and end. */
const BLOCK_BYTES = 14
const SLOT_BYTES = 4

export class BlockIndex {
  count = 0
  readonly #seed = randomBytes(4).readUInt32LE()
  #fingerprint = new Uint32Array(FIRST_BLOCKS)
  #slab = new Uint16Array(FIRST_BLOCKS)
  #start = new Uint32Array(FIRST_BLOCKS)
  #end = new Uint32Array(FIRST_BLOCKS)
  /** A slot has the number of a block + 1, or 0 when it is free. At most three quarters of the slots are used. */
  #table = new Uint32Array(FIRST_SLOTS)

  /** The memory that the index takes now. */
  get memoryBytes(): number {
    return this.#start.length * BLOCK_BYTES + this.#table.length * SLOT_BYTES
  }

  /** The memory that the index will take after `blocks` more blocks. */
  memoryBytesWith(blocks: number): number {
    return memoryBytesOf(this.count + blocks)
  }

  /** The hash of the CID that starts at `at`. Other indexes give other hashes. */
  fingerprintOf(bytes: Uint8Array, at: number): number {
    return mixed(mixed(wordAt(bytes, at + 4) ^ this.#seed) ^ wordAt(bytes, at + 8)) >>> 0
  }

  slabOf(number: number): number {
    return this.#slab[number]!
  }

  startOf(number: number): number {
    return this.#start[number]!
  }

  endOf(number: number): number {
    return this.#end[number]!
  }

  add(fingerprint: number, slab: number, start: number, end: number): void {
    if (this.count === this.#start.length) this.#widen()
    if ((this.count + 1) * 4 > this.#table.length * 3) this.#rehash()
    this.#fingerprint[this.count] = fingerprint
    this.#slab[this.count] = slab
    this.#start[this.count] = start
    this.#end[this.count] = end
    this.#insert(this.count++)
  }

  /** The first block of that fingerprint for which `isIt` holds, or -1. */
  find(fingerprint: number, isIt: (number: number) => boolean): number {
    const mask = this.#table.length - 1
    for (let slot = fingerprint & mask; ; slot = (slot + 1) & mask) {
      const number = this.#table[slot]! - 1
      if (number === -1 || (this.#fingerprint[number] === fingerprint && isIt(number))) return number
    }
  }

  #insert(number: number): void {
    const mask = this.#table.length - 1
    let slot = this.#fingerprint[number]! & mask
    while (this.#table[slot] !== 0) slot = (slot + 1) & mask
    this.#table[slot] = number + 1
  }

  #widen(): void {
    this.#fingerprint = widened(this.#fingerprint)
    this.#slab = widened(this.#slab)
    this.#start = widened(this.#start)
    this.#end = widened(this.#end)
  }

  #rehash(): void {
    this.#table = new Uint32Array(this.#table.length * 2)
    for (let i = 0; i < this.count; i++) this.#insert(i)
  }
}

/** How many blocks an index of at most `bytes` can hold. */
export function blocksWithin(bytes: number): number {
  let most = 0
  // The index grows at two points: when the arrays are full, and when three quarters of the slots are used.
  for (let size = FIRST_BLOCKS; memoryBytesOf(size) <= bytes; size *= 2) {
    most = memoryBytesOf(size * 1.5) <= bytes ? size * 1.5 : size
  }
  return most
}

function memoryBytesOf(blocks: number): number {
  let [room, slots] = [FIRST_BLOCKS, FIRST_SLOTS]
  while (room < blocks) room *= 2
  while (slots * 3 < blocks * 4) slots *= 2
  return room * BLOCK_BYTES + slots * SLOT_BYTES
}

function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
}

/** The finalizer of MurmurHash3: each bit of the result depends on all bits of `word`. */
function mixed(word: number): number {
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b)
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35)
  return word ^ (word >>> 16)
}

function widened<T extends Uint16Array | Uint32Array>(array: T): T {
  const wider = new (array.constructor as new (length: number) => T)(array.length * 2)
  wider.set(array)
  return wider
}
