/**
 * Which records somebody has come upon: 16 bytes for each, where a set of their URIs takes more than a hundred.
 *
 * It holds 64 bits of a hash, so of two million records it takes one for another once in ten million times. The hash has a key of the process: else
 * whoever chooses the URIs could choose such as are taken for each other.
 */
import { hash, randomBytes } from 'node:crypto'

const KEY = randomBytes(16).toString('latin1')
const FIRST_PLACES = 1_024

export class Seen {
  /** Two words a place; of one that is empty both are 0. At most half of the places are taken. */
  #words = new Uint32Array(2 * FIRST_PLACES)
  #size = 0

  get size(): number {
    return this.#size
  }

  /** True the first time. */
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

  /** Where these words are, or else an empty place. */
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
