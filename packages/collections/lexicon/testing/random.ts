/** Pseudo-random choices that a seed repeats. */
import { createHash } from 'node:crypto'

export interface Random {
  /** From 0 to `limit` - 1. */
  below(limit: number): number
  pick<T>(items: readonly T[]): T
  /** True once in `n`. */
  once(n: number): boolean
  /** `length` characters of an alphabet. */
  text(alphabet: string, length: number): string
}

export function random(seed: string): Random {
  let state = createHash('sha256').update(seed).digest().readUInt32BE(0)
  // mulberry32
  const below = (limit: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor(((t ^ (t >>> 14)) >>> 0) * 2 ** -32 * limit)
  }
  return {
    below,
    pick: (items) => items[below(items.length)]!,
    once: (n) => below(n) === 0,
    text: (alphabet, length) => Array.from({ length }, () => alphabet[below(alphabet.length)]).join(''),
  }
}

/**
 * The seed of this run: that of the variable `SEED`, or a new one. The seed is printed, so that a failure can be
 * repeated.
 */
export function seedOfRun(): string {
  const seed = process.env.SEED ?? String(Date.now())
  process.stdout.write(`SEED=${seed}\n`)
  return seed
}
