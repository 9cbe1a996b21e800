/**
 * V1, V4, V5: what is mutated is refused by a named reason or read; nothing throws, and nothing unsigned is taken.
 * `FUZZ=100000` is the full run.
 */
import { expect, test } from 'vitest'
import { fuzz } from './fuzz.ts'

const COUNT = Number(process.env.FUZZ ?? 10_000)
const SEED = Number(process.env.SEED ?? 1)

test(
  `${COUNT} mutated frames, exports and entries: each refused by name or read`,
  { timeout: 60_000 + COUNT * 20 },
  async () => {
    const { outcomes, findings } = await fuzz(SEED, COUNT)
    if (COUNT > 10_000)
      process.stderr.write(
        `${[...outcomes]
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([name, n]) => `  ${name.padEnd(44)} ${n}`)
          .join('\n')}\n`,
      )
    expect(findings).toEqual([])
    expect([...outcomes.values()].reduce((sum, n) => sum + n, 0)).toBe(COUNT)
    // Mutations that nobody notices, or that all look alike, would show nothing.
    for (const what of ['frame', 'export', 'entry']) {
      expect([...outcomes.keys()].filter((name) => name.startsWith(`${what} refused`)).length).toBeGreaterThan(1)
    }
  },
)
