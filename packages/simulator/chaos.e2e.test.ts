/**
 * D1–D9, C1–C5: whatever goes wrong, in the order of a seed, the index ends as the truth. `CHAOS_SEEDS=1,2,3` chooses
 * others; many, and with more faults each: `npm run simulate -- --chaos --seeds 1-200`.
 */
import { CRASH_POINTS } from '@sluice/runtime/crash-points.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { chaosRun } from './chaos.ts'
import { RECORD_TABLES } from './compare.ts'

const SEEDS = (process.env.CHAOS_SEEDS ?? '1,2').split(',').map(Number)
/** Each run draws a half of the kinds; two that follow each other hit all crash points. */
const FAULTS = 10

const reached = new Set<string>()
const compared = new Map<string, number>()

/** Of these there must be some, or they are not compared. */
const KINDS = [
  ...['invalidReplyRoot', 'violatesThreadGate', 'violatesEmbeddingRules'].flatMap((column) => [`post.${column} true`, `post.${column} false`]),
  ...['like', 'repost', 'like-via-repost', 'repost-via-repost', 'follow', 'mention', 'quote', 'reply', 'verified', 'starterpack-joined'].map((reason) => `notification ${reason}`),
  ...RECORD_TABLES,
] // prettier-ignore

test.for(SEEDS)('chaos of seed %i ends in the truth, with nothing left over', async (seed) => {
  const report = await chaosRun({ seed, events: 800, faults: FAULTS, say: (line) => process.stderr.write(`${line}\n`) })
  expect(report.problems).toEqual([])
  expect([...report.fired.values()].reduce((sum, count) => sum + count, 0)).toBe(FAULTS)
  for (const point of report.points.keys()) reached.add(point)
  for (const [kind, n] of Object.entries(report.census)) compared.set(kind, (compared.get(kind) ?? 0) + n)
})

test.runIf(SEEDS.length > 1)('every crash point was hit', () => {
  expect(CRASH_POINTS.filter((point) => !reached.has(point))).toEqual([])
})

test.runIf(SEEDS.length > 1)('people did everything that is compared', () => {
  expect(KINDS.filter((kind) => !compared.has(kind))).toEqual([])
})
