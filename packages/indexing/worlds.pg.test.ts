/**
 * C1, C2, C5, D3: random small worlds, many in one index, of every order and split that `testing/arrival.ts` knows: by one lane and by three, they end in the rows, counters and
 * notifications of their natural order, one event at a time; counters equal a recount; and when everything comes once more, as after a crash, nothing changes.
 *
 * A world that fails is told with its seed and with the fewest events that still fail. Longer: SEEDS=1,2,3 EVENTS=120.
 */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { arrivalOf, laneOf, type Arrival } from './testing/arrival.ts'
import { indexOn } from './testing/index-on.ts'
import { wrongCounters } from './testing/recount.ts'
import { settleAll } from './testing/settle-all.ts'
import { shrunk, tell } from './testing/shrink.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { KINDS, world, type Kind } from './testing/world.ts'

const set = new CollectionSet(collections)
const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [9]
const EVENTS = Number(process.env.EVENTS ?? 60)
/** In one index, and each batch has a part of each: a batch costs its round trips, however little is in it. */
const WORLDS = 60

type Batches = readonly (readonly StreamEvent[])[]

interface Indexes {
  natural: Index
  other: Index
  lanes: number
}

/** Of several worlds the first batches together, then the second ones, and so on. */
async function apply(index: Index, worlds: readonly Batches[]): Promise<void> {
  const most = Math.max(...worlds.map(({ length }) => length))
  for (let at = 0; at < most; at++) {
    await applyBatch(
      index,
      worlds.flatMap((batches) => batches[at] ?? []),
    )
  }
}

/** What does not depend on the way in which those of that kind came (`testing/world.ts`). */
async function rowsOf(index: Index, kind: Kind): Promise<Snapshot> {
  const {
    op_thread_reply: places,
    actor_sync: heads,
    ...rows
  } = await snapshot(index.db, { withoutTimes: kind === 'exported' })
  if (kind === 'exported') return rows
  return {
    ...rows,
    heads: heads!,
    places: places!.map((line) => line.replace(/"deletedAt":"[^"]*"/, '"deletedAt":""')),
  }
}

/** What is wrong in the end, each as a line. */
async function wrongWith({ natural, other, lanes }: Indexes, arrivals: readonly Arrival[]): Promise<string[]> {
  const kind = arrivals[0]!.world.kind
  await Promise.all([
    apply(
      natural,
      arrivals.map(({ world: { events } }) => events.map((event) => [event])),
    ),
    ...Array.from({ length: lanes }, (_, lane) =>
      apply(
        other,
        arrivals.map((arrival) => laneOf(arrival, lane, lanes)),
      ),
    ),
  ])
  if (other.room) await settleAll(other)
  const [wanted, found] = [await rowsOf(natural, kind), await rowsOf(other, kind)]
  const lines = differences(wanted, found, Infinity)
  for (const [index, rows] of [
    [natural, wanted],
    [other, found],
  ] as const) {
    lines.push(...(await wrongCounters(index.db, set)))
    await applyBatch(
      index,
      arrivals.flatMap(({ world: { events } }) => events),
    )
    if (index.room) await settleAll(index)
    lines.push(...differences(rows, await rowsOf(index, kind), Infinity).map((line) => `after redelivery ${line}`))
  }
  return lines
}

const isOf = ({ world }: Arrival, line: string): boolean => world.dids.some((did) => line.includes(did))

describe.each(SEEDS)('seed %i', (seed) => {
  test.for(KINDS.flatMap((kind) => [1, 3].map((lanes) => [kind, lanes] as const)))(
    'small worlds, %s, by %i at once, end as in their natural order',
    { timeout: 600_000 },
    async ([kind, lanes], { database, otherDatabase }) => {
      const seeds = Array.from({ length: WORLDS }, (_, i) => seed * 1_000 + i)
      const arrivals = seeds.map((one) => arrivalOf(world(kind, one, EVENTS), new Random(one)))
      await using natural = indexOn(database)
      // By three, of every second seed nearly all is put off.
      const isPutOff = seed % 2 === 0 && lanes > 1
      await using other = { ...indexOn(otherDatabase), ...(isPutOff ? { room: { base: 0, each: 1, own: 0 } } : {}) }
      const indexes = { natural, other, lanes }
      const wrong = await wrongWith(indexes, arrivals)
      const failed = arrivals.filter((arrival) => wrong.some((line) => isOf(arrival, line)))
      if (!failed[0]) return expect(wrong).toEqual([])
      const first = failed[0]
      const fewest = await shrunk(first, async (candidates) => {
        const lines = await wrongWith(indexes, candidates)
        return candidates.find((candidate) => lines.some((line) => isOf(candidate, line)))
      })
      const lines = wrong.filter((line) => isOf(first, line)).slice(0, 10)
      const failedSeeds = failed.map((arrival) => seeds[arrivals.indexOf(arrival)])
      expect.fail(`of worlds ${failedSeeds.join(', ')}, the first:\n${lines.join('\n')}\n${tell(fewest)}`)
    },
  )
})
