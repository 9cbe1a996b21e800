/**
 * C1: the same events end in the same rows, however they are split, ordered and repeated, and however many apply them.
 */
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { history } from './testing/history.ts'
import { settleAll } from './testing/settle-all.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'

const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2, 3, 4]
const EVENTS = Number(process.env.EVENTS ?? 400)

async function apply(index: Index, events: readonly StreamEvent[], sizes: () => number): Promise<void> {
  for (let at = 0; at < events.length;) {
    const size = sizes()
    await applyBatch(index, events.slice(at, at + size))
    at += size
  }
}

/** The natural order, one event after the other. */
async function natural(url: string, events: readonly StreamEvent[]): Promise<Snapshot> {
  await using index = indexOn(url)
  await apply(index, events, () => 1)
  return await snapshot(index.db)
}

describe.each(SEEDS)('seed %i', (seed) => {
  const events = history({ seed, events: EVENTS })

  test('a batch split at any point gives the same rows', async ({ database, otherDatabase }) => {
    const expected = await natural(database, events)
    const random = new Random(seed)
    await using index = indexOn(otherDatabase)
    await apply(index, events, () => 1 + random.below(random.pick([3, 30, 300])))
    expect(differences(expected, await snapshot(index.db))).toEqual([])
  })

  test('what is put off, nearly all, and worked off while batches go on, gives the same rows', async ({
    database,
    otherDatabase,
  }) => {
    const expected = await natural(database, events)
    const random = new Random(seed + 2_000)
    const delivered = random.shuffled([...events, ...events.filter(() => random.chance(0.3))])
    await using index = { ...indexOn(otherDatabase), room: { base: 0, each: random.below(2), own: 0 } }
    const lanes = [0, 1, 2].map((lane) => delivered.filter((_, i) => i % 3 === lane))
    const applied = lanes.map((lane) => apply(index, lane, () => 1 + random.below(40)))
    let isApplied = false
    let claims = 0
    const settled = [0, 1].map(async () => {
      for (let isLast = false; !isLast;) {
        isLast = isApplied
        claims += await settleAll(index)
      }
    })
    await Promise.all(applied)
    isApplied = true
    await Promise.all(settled)
    expect(claims).toBeGreaterThan(5)
    expect(differences(expected, await snapshot(index.db))).toEqual([])
  })

  test('any order of arrival, with redelivery and three appliers at once, gives the same rows', async ({
    database,
    otherDatabase,
  }) => {
    const expected = await natural(database, events)
    const random = new Random(seed + 1_000)
    const delivered = random.shuffled([...events, ...events.filter(() => random.chance(0.3))])
    await using index = indexOn(otherDatabase)
    const lanes = [0, 1, 2].map((lane) => delivered.filter((_, i) => i % 3 === lane))
    await Promise.all(lanes.map((lane) => apply(index, lane, () => 1 + random.below(40))))
    expect(differences(expected, await snapshot(index.db))).toEqual([])
  })
})
