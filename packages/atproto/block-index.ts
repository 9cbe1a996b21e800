/**
 * Where each block lies, found by its CID: a hash table with open addressing in typed arrays. 14 bytes a block and 5 to 11 of
 * table; a `Map` from CID to view took 190.
 *
 * The start of a digest is the hash. Who wants collisions must find blocks that hash to them.
 */
export class BlockIndex {
  count = 0
  #fingerprint = new Uint32Array(256)
  #slab = new Uint16Array(256)
  #start = new Uint32Array(256)
  #end = new Uint32Array(256)
  /** Block number + 1; 0 is free. At most three quarters full. */
  #table = new Uint32Array(512)

  /** What the table takes of memory. */
  get memoryBytes(): number {
    return this.#start.length * 14 + this.#table.length * 4
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

/** The first four bytes of the digest of the CID that starts at `at`. */
export function fingerprintOf(bytes: Uint8Array, at: number): number {
  return ((bytes[at + 4]! << 24) | (bytes[at + 5]! << 16) | (bytes[at + 6]! << 8) | bytes[at + 7]!) >>> 0
}

function widened<T extends Uint16Array | Uint32Array>(array: T): T {
  const wider = new (array.constructor as new (length: number) => T)(array.length * 2)
  wider.set(array)
  return wider
}
