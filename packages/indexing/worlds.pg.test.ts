/**
 * C1, C2, C5, D3: random small worlds, many in one index, of every order and split that `testing/arrival.ts` knows: by
 * one lane and by three, they end in the rows, counters and notifications of their natural order, one event at a time;
 * counters equal a recount; and when everything comes once more, as after a crash, nothing changes.
 *
 * A world that fails is told with its seed and with the fewest events that still fail. Longer: SEEDS=1,2,3 EVENTS=120.
 */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { arrivalOf, laneOf, type Arrival, type Batches } from './testing/arrival.ts'
import { indexOn } from './testing/index-on.ts'
import { wrongCounters } from './testing/recount.ts'
import { settleAll } from './testing/settle-all.ts'
import { shrunk, tell } from './testing/shrink.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { hasExports, KINDS, world, type Kind } from './testing/world.ts'

const set = new CollectionSet(collections)
const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [9]
const EVENTS = Number(process.env.EVENTS ?? 48)
/** In one index, and each batch has a part of each: a batch costs its round trips, however little is in it. */
const WORLDS = Number(process.env.WORLDS ?? 160)

interface Indexes {
  natural: Index
  other: Index
  lanes: number
  /** Each of them has its own accounts, so that none waits for another. */
  isByAccount: boolean
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
  } = await snapshot(index.db, { withoutTimes: hasExports(kind) })
  if (kind === 'exported') return rows
  if (kind === 'backfilled') return { ...rows, heads: heads! }
  return {
    ...rows,
    heads: heads!,
    places: places!.map((line) => line.replace(/"deletedAt":"[^"]*"/, '"deletedAt":""')),
  }
}

/** What is wrong in the end, each as a line. */
async function wrongWith(
  { natural, other, lanes, isByAccount }: Indexes,
  arrivals: readonly Arrival[],
): Promise<string[]> {
  const kind = arrivals[0]!.world.kind
  for (const { db } of [natural, other]) await mute(db, arrivals)
  await Promise.all([
    apply(
      natural,
      arrivals.map((arrival) => arrival.natural),
    ),
    ...Array.from({ length: lanes }, (_, lane) =>
      apply(
        other,
        arrivals.map((arrival) => laneOf(arrival, lane, lanes, isByAccount)),
      ),
    ),
  ])
  for (const index of [natural, other]) await settleAll(index)
  const [wanted, found] = [await rowsOf(natural, kind), await rowsOf(other, kind)]
  const lines = differences(wanted, found, Infinity)
  for (const [index, rows] of [
    [natural, wanted],
    [other, found],
  ] as const) {
    lines.push(...(await wrongCounters(index.db, set)))
    await applyBatch(
      index,
      arrivals.flatMap((arrival) => arrival.natural.flat()),
    )
    await settleAll(index)
    lines.push(...differences(rows, await rowsOf(index, kind), Infinity).map((line) => `after redelivery ${line}`))
  }
  return lines
}

async function mute(db: DatabasePool, arrivals: readonly Arrival[]): Promise<void> {
  const mutes = arrivals.flatMap(({ world }) => world.mutes)
  await db.query(
    `insert into thread_mute ("rootUri", "mutedByDid", "createdAt") select uri, did, '' from unnest($1::text[], $2::text[]) as muted (uri, did)`,
    [mutes.map(([uri]) => uri), mutes.map(([, did]) => did)],
  )
}

/** Where something is wrong: with fewer events it is to be wrong there too. */
const tableOf = (line: string): string => line.replace('after redelivery ', '').split(' ', 1)[0]!

const isOf = ({ world }: Arrival, line: string): boolean => world.dids.some((did) => line.includes(did))

describe.each(SEEDS)('seed %i', (seed) => {
  test.for(KINDS.flatMap((kind) => [1, 3].map((lanes) => [kind, lanes] as const)))(
    'small worlds, %s, by %i at once, end as in their natural order',
    { timeout: 600_000 },
    async ([kind, lanes], { database, otherDatabase }) => {
      const seeds = Array.from({ length: WORLDS }, (_, i) => seed * 1_000 + i)
      const arrivals = seeds.map((one) => arrivalOf(world(kind, one, EVENTS), new Random(one)))
      await using natural = indexOn(database)
      // By three, of every second seed nearly all is put off, and of two in four they are at work on the same accounts.
      const isPutOff = seed % 2 === 0 && lanes > 1
      const isByAccount = seed % 4 < 2
      await using other = { ...indexOn(otherDatabase), ...(isPutOff ? { room: { base: 0, each: 1, own: 0 } } : {}) }
      const indexes = { natural, other, lanes, isByAccount }
      const wrong = await wrongWith(indexes, arrivals)
      const failed = arrivals.filter((arrival) => wrong.some((line) => isOf(arrival, line)))
      if (!failed[0]) return expect(wrong).toEqual([])
      const first = failed[0]
      let lines = wrong.filter((line) => isOf(first, line))
      const table = tableOf(lines[0]!)
      const fewest = await shrunk(first, async (candidates) => {
        const all = await wrongWith(indexes, candidates)
        const found = candidates.find((one) => all.some((line) => isOf(one, line) && tableOf(line) === table))
        if (found) lines = all.filter((line) => isOf(found, line))
        return found
      })
      const failedSeeds = failed.map((arrival) => seeds[arrivals.indexOf(arrival)])
      expect.fail(`of worlds ${failedSeeds.join(', ')}, the first:\n${tell(fewest, lines.slice(0, 10))}`)
    },
  )
})
