/**
 * The set of records that a walk has visited: 16 bytes for each, where a set of their URIs takes more than a hundred.
 *
 * It holds 64 bits of a hash of each URI, so among two million records it takes one for another once in ten million
 * times. The hash has a key that is random for each process. Otherwise whoever chooses the URIs could choose some that
 * collide.
 */
import { hash, randomBytes } from 'node:crypto'

const KEY = randomBytes(16).toString('latin1')
const FIRST_PLACES = 1_024

export class Seen {
  /** Two words for each place; in an empty place both are 0. At most half of the places are taken. */
  #words = new Uint32Array(2 * FIRST_PLACES)
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Adds a URI. Returns whether it was new. */
  add(uri: string): boolean {
    if (4 * this.#size >= this.#words.length) this.#widen()
    const [low, high] = wordsOf(uri)
    const at = this.#placeOf(low, high)
    if (this.#isTaken(at)) return false
    this.#words[at] = low
    this.#words[at + 1] = high
    this.#size++
    return true
  }

  has(uri: string): boolean {
    return this.#isTaken(this.#placeOf(...wordsOf(uri)))
  }

  /** The place that holds these words, or the empty place where they would go. */
  #placeOf(low: number, high: number): number {
    const words = this.#words
    const mask = words.length - 2
    for (let at = (low << 1) & mask; ; at = (at + 2) & mask) {
      if ((words[at] === low && words[at + 1] === high) || !this.#isTaken(at)) return at
    }
  }

  #isTaken(at: number): boolean {
    return this.#words[at] !== 0 || this.#words[at + 1] !== 0
  }

  #widen(): void {
    const before = this.#words
    this.#words = new Uint32Array(2 * before.length)
    for (let i = 0; i < before.length; i += 2) {
      const [low, high] = [before[i]!, before[i + 1]!]
      if (low === 0 && high === 0) continue
      const at = this.#placeOf(low, high)
      this.#words[at] = low
      this.#words[at + 1] = high
    }
  }
}

function wordsOf(uri: string): [number, number] {
  const digest = hash('sha256', KEY + uri, 'buffer')
  const low = digest.readUInt32LE(0)
  const high = digest.readUInt32LE(4)
  return [low, low === 0 && high === 0 ? 1 : high]
}
