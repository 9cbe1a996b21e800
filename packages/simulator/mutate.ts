/** Real bytes made wrong: bits flipped, ends cut off, pieces left out, doubled, or taken from somewhere else. */
import type { Random } from '@sluice/sandbox/random.ts'

const WAYS = { flip: 40, truncate: 10, splice: 20, leaveOut: 10, double: 10, noise: 10 } as const

/** @param others where pieces are taken from */
export function mutate(bytes: Buffer, others: readonly Buffer[], random: Random): Buffer {
  const at = random.below(bytes.length)
  const length = 1 + Math.floor(random.next() ** 3 * (bytes.length - at))
  const way = random.weighted(WAYS)
  switch (way) {
    case 'flip': {
      const copy = Buffer.from(bytes)
      for (let i = 1 + random.below(4); i > 0; i--) copy[random.below(copy.length)]! ^= 1 << random.below(8)
      return copy
    }
    case 'truncate':
      return bytes.subarray(0, at)
    case 'splice': {
      const other = random.pick(others)
      const from = random.below(other.length)
      return Buffer.concat([bytes.subarray(0, at), other.subarray(from, from + length), bytes.subarray(at + length)])
    }
    case 'leaveOut':
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)])
    case 'double':
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)])
    case 'noise': {
      const noise = Buffer.from(Array.from({ length: Math.min(length, 64) }, () => random.below(256)))
      return Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at)])
    }
    default:
      return way satisfies never
  }
}

const WEIRD: readonly unknown[] = [
  null, true, false, 0, -1, 1.5, 2 ** 53 - 1, '', '\0', '\ud800', 'x'.repeat(5_000), '../..', [], {}, [[[[]]]], { $link: 'bafy' }, { $bytes: '!' }, '2026-99-99T99:99:99Z', 'did:plc:', 'at://', '__proto__',
] // prettier-ignore

/** Something else than what belongs there. */
function weird(random: Random): unknown {
  return random.pick(WEIRD)
}

/** A copy of a JSON value with one place in it changed, left out, or named otherwise. */
export function mutateJson(value: unknown, random: Random): unknown {
  if (value === null || typeof value !== 'object' || random.chance(0.15)) return weird(random)
  if (Array.isArray(value)) {
    if (value.length === 0) return [weird(random)]
    const at = random.below(value.length)
    return value.map((item: unknown, i) => (i === at ? mutateJson(item, random) : item))
  }
  const entries = Object.entries(value)
  if (entries.length === 0) return { strange: weird(random) }
  const at = random.below(entries.length)
  if (random.chance(0.15)) return Object.fromEntries(entries.filter((_, i) => i !== at))
  return Object.fromEntries(entries.map(([key, inner], i) => [key, i === at ? mutateJson(inner, random) : inner]))
}
