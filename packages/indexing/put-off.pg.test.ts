/**
 * C1, C5, D3: what batches put off, when nearly everything is, is settled in any order beside them, by several at once,
 * while batches and claims are cut short at any statement, and claims run out under those who hold them, and some leave
 * to others what is further down; and the end is that of the natural order. The seed decides what happens, not when:
 * that is different each time. Longer: SEEDS=1,2,3 EVENTS=800.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import type { RecordEvent, StreamEvent } from '@sluice/events/stream-event.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import type { OnwardLimits } from './derive-onward.ts'
import { KnownActors } from './own.ts'
import type { BatchRoom } from './settle.ts'
import { claimLater, giveBack, holdClaim, LATER_QUEUES, settleClaim, waitingLater } from './settle-later.ts'
import { abortedAtLook } from './testing/aborted.ts'
import { exportOf, firstVersions } from './testing/exports.ts'
import { history } from './testing/history.ts'
import { indexOn } from './testing/index-on.ts'
import { wrongCounters } from './testing/recount.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { TroubledPool } from './testing/troubled-pool.ts'

const set = new CollectionSet(collections)
const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2]
const EVENTS = Number(process.env.EVENTS ?? 400)
const LANES = 3
const SETTLERS = 3
const ROUNDS_MAX = 10
/**
 * After each so many tries a claim lasts twice as long: on a busy machine its work takes seconds, and the settlers
 * would take it from each other without end.
 */
const TRIES_BEFORE_LONGER = 20
const LONGER_MAX = 256

/** Who answers whom, and who may. */
const THREADS = /\.(post|threadgate|postgate|follow|list|listitem)$/

/** What came of it. */
interface Fared {
  /** Batches that were cut short. */
  interrupted: number
  claims: number
  /** Claims that were cut short, and left to whoever comes when they end. */
  abandoned: number
  /** Claims of what had been claimed before, when that claim had run out. */
  inherited: number
}

/** Little of it, and another for each batch. */
function roomOf(random: Random): BatchRoom {
  return { base: random.below(4), each: random.below(2), own: random.below(2) }
}

/** Some go no further than a few posts down (what others write just then: `handed-over.pg.test.ts`). */
function limitsOf(random: Random): Partial<OnwardLimits> {
  return random.chance(0.3) ? {} : { seen: 1 + random.below(4), idleRounds: 1 + random.below(3) }
}

/** Applies in batches; of one that is cut short each event comes again, some time later. */
async function lane(index: Index, events: readonly StreamEvent[], random: Random, fared: Fared): Promise<void> {
  const left = [...events]
  while (left.length > 0) {
    const batch = left.splice(0, 1 + random.below(random.pick([2, 8, 25])))
    try {
      await applyBatch({ ...index, room: roomOf(random) }, batch)
    } catch (error) {
      if (!(error instanceof TransientError)) throw error
      fared.interrupted++
      const at = random.below(left.length + 1)
      if (random.chance(0.5)) left.splice(at, 0, ...batch)
      else for (const event of batch) left.splice(random.below(left.length + 1), 0, event)
    }
  }
}

/** Takes several, gives all but one of them back, and settles that; dies with some. Until nothing is left. */
async function settler(index: Index, random: Random, fared: Fared, isLast: () => boolean): Promise<void> {
  for (;;) {
    const ends = isLast()
    try {
      if (await settleOne(index, random, fared)) continue
      if (ends && (await waitingLater(index.db)) === 0) return
    } catch (error) {
      if (!(error instanceof TransientError)) throw error
    }
    await sleep(random.below(5))
  }
}

async function settleOne({ db, collections }: Index, random: Random, fared: Fared): Promise<boolean> {
  const now = Date.now()
  const until = new Date(now + 1 + random.below(random.pick([5, 200]))).toISOString()
  const queue = random.pick(LATER_QUEUES)
  const claims = random.shuffled(
    await claimLater(db, { now: new Date(now).toISOString(), until, limit: 1 + random.below(5), queue }),
  )
  const one = claims.pop()
  if (!one) return false
  for (const claim of claims) await giveBack(db, claim)
  fared.claims++
  if (queue === 'again') fared.inherited++
  const signal = abortedAtLook(random.chance(0.1) ? 1 + random.below(3) : Infinity)
  try {
    const longer = Math.min(2 ** Math.floor(one.tries / TRIES_BEFORE_LONGER), LONGER_MAX)
    if (longer > 1 || random.chance(0.2))
      await holdClaim(db, one, new Date(Date.parse(until) + longer * random.below(300)).toISOString())
    await settleClaim(db, collections, one, { signal, againMs: random.below(10), limits: limitsOf(random) })
  } catch (error) {
    if (signal.aborted) await giveBack(db, one)
    else if (error instanceof TransientError) fared.abandoned++
    else throw error
  }
  return true
}

/** All at once, until all is applied and nothing is put off any more. */
async function fare(url: string, delivered: readonly StreamEvent[], random: Random, fared: Fared): Promise<void> {
  const dawdling = random.pick([0, 0.01, 0.05])
  const indexWith = (size: number, lost: number): Index & AsyncDisposable => {
    const options = { url, schema: 'bsky', size, role: 'test', byKey: true }
    const db = new TroubledPool(options, { random, lost, dawdling })
    return { db, collections: set, actors: new KnownActors(), [Symbol.asyncDispose]: () => db.close() }
  }
  await using index = indexWith(2 * LANES, random.pick([0.05, 0.1]))
  await using later = indexWith(2 * SETTLERS, random.pick([0.05, 0.1, 0.2]))
  let applying = LANES
  const lanes = Array.from({ length: LANES }, async (_, n) => {
    const events = delivered.filter((_event, i) => i % LANES === n)
    await lane(index, events, random, fared)
    applying--
  })
  const settlers = Array.from({ length: SETTLERS }, () => settler(later, random, fared, () => applying === 0))
  await Promise.all([...lanes, ...settlers])
}

/** Whether all has happened that is to be outlived. */
function isThrough({ claims, ...times }: Fared): boolean {
  return claims > 20 && Object.values(times).every((count) => count > 0)
}

/** Rows that do not tell the way they came. */
async function rowsOf(index: Index, withoutTimes: boolean): Promise<Snapshot> {
  const { actor_sync: _, ...rows } = await snapshot(index.db, { withoutTimes })
  return rows
}

/** An export of each account, at some point of the history. */
function exportsOf(events: readonly RecordEvent[], random: Random): StreamEvent[] {
  const dids = [...new Set(events.map(({ did }) => did))]
  return dids.flatMap((did) => {
    const until = events.slice(0, Math.ceil(events.length * (0.3 + random.next() * 0.7)))
    const time = new Date(Date.parse(until.at(-1)!.time) + 1).toISOString()
    return exportOf({ until, did, time, random }).flat()
  })
}

describe.each(SEEDS)('seed %i', (seed) => {
  const told = history({ seed: seed + 9_000, events: EVENTS }).filter(({ collection }) => THREADS.test(collection))

  test.for(['live', 'live and exported'])(
    'what is put off and cut short anywhere, by three lanes and three who settle, ends as the natural order: %s',
    { timeout: 600_000 },
    async (how, { database, otherDatabase }) => {
      const random = new Random(seed * 7_919 + how.length)
      const events = how === 'live' ? told : firstVersions(told)
      const exports = how === 'live' ? [] : exportsOf(events, random)
      await using natural = indexOn(database)
      for (let at = 0; at < events.length; at += 20) await applyBatch(natural, events.slice(at, at + 20))
      const again = [...events, ...exports].filter(() => random.chance(0.2))
      const fared: Fared = { interrupted: 0, claims: 0, abandoned: 0, inherited: 0 }
      // What happens depends on the moment too: when something has not, all of it comes once more.
      for (let round = 0; round < ROUNDS_MAX && !isThrough(fared); round++)
        await fare(otherDatabase, random.shuffled([...events, ...exports, ...again]), random, fared)
      await using index = indexOn(otherDatabase)
      const wanted = await rowsOf(natural, how !== 'live')
      expect(differences(wanted, await rowsOf(index, how !== 'live'))).toEqual([])
      expect(await wrongCounters(index.db, set)).toEqual([])
      expect(fared).toSatisfy(isThrough)
    },
  )
})
