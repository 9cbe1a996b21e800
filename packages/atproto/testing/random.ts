/** Pseudo-random numbers that a seed repeats (mulberry32). */
import { createHash } from 'node:crypto'

export interface Random {
  /** From 0 to `limit` - 1. */
  below(limit: number): number
  pick<T>(items: readonly T[]): T
  bytes(length: number): Buffer
}

export function random(seed: string): Random {
  let state = createHash('sha256').update(seed).digest().readUInt32BE(0)
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    below: (limit) => Math.floor(next() * limit),
    pick: (items) => items[Math.floor(next() * items.length)]!,
    bytes(length) {
      const bytes = Buffer.alloc(length)
      for (let i = 0; i < length; i++) bytes[i] = Math.floor(next() * 256)
      return bytes
    },
  }
}
