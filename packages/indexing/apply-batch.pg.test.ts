/**
 * C6: however much a resync's ranges remove, no transaction removes more than a bounded part of it; interrupted
 * anywhere, the end is the same.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { pathOf, uriOf, type CreateEvent, type RepoEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { inParts, recordsInRanges, REMOVED_MAX } from './ranges.ts'
import { prepare } from './prepare.ts'
import { indexOn } from './testing/index-on.ts'
import { abortedAtLook } from './testing/aborted.ts'
import { exportOf, firstVersions } from './testing/exports.ts'
import { history } from './testing/history.ts'
import { wrongCounters } from './testing/recount.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

const set = new CollectionSet(collections)
const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2]
const EVENTS = Number(process.env.EVENTS ?? 300)

async function apply(index: Index, events: readonly StreamEvent[], size = 1_000): Promise<void> {
  for (let at = 0; at < events.length; at += size) await applyBatch(index, events.slice(at, at + size))
}

/** Each account likes so many posts of another. */
function likesOf(story: Story, names: readonly string[], likes: number): StreamEvent[] {
  const posts = Array.from({ length: likes }, (_, i) => story.post('zoe', `post ${i}`))
  return [...posts, ...names.flatMap((name) => posts.map((post) => story.like(name, post)))]
}

/** What a resync says whose export holds these records alone. */
function emptied(story: Story, name: string, kept: readonly CreateEvent[] = []): RepoEvent {
  const { did, time, commit, rev } = story.post(name, 'only its rev counts')
  return { type: 'repo', time, did, commit, rev, range: ['', ''], keys: kept.map(pathOf).sort() }
}

/** How many tombstones each transaction has left. */
async function removedByTransaction({ db }: Index): Promise<number[]> {
  const { rows } = await db.query<{ n: number }>('select count(*)::int as n from tombstone group by xmin::text')
  return rows.map(({ n }) => n)
}

async function countOf({ db }: Index, table: string): Promise<number> {
  const { rows } = await db.query<{ n: number }>(`select count(*)::int as n from ${table}`)
  return rows[0]!.n
}

/**
 * Gives the batch up after each part, and applies it again, until it goes through. @returns how often it was given up
 */
async function applyInterrupted(index: Index, events: readonly StreamEvent[], batchRecords?: number): Promise<number> {
  for (let interruptions = 0; ; interruptions++) {
    try {
      await applyBatch(index, events, { signal: abortedAtLook(2), batchRecords })
      return interruptions
    } catch (error) {
      if (!(error instanceof Error && error.name === 'AbortError')) throw error
    }
  }
}

test('C6 one entry of the stream empties a repository of 5,000 records, in bounded transactions', async ({
  database,
}) => {
  const story = new Story()
  await using index = indexOn(database)
  const events = likesOf(story, ['ann'], 5_000)
  await apply(index, events)
  expect(await countOf(index, 'notification')).toBe(5_000)
  const likes = events.filter((event): event is CreateEvent => 'collection' in event && event.did === story.did('ann'))
  const kept = [likes[0]!, likes[1_999]!, likes[2_000]!, likes[4_999]!]
  const applied = await applyBatch(index, [emptied(story, 'ann', kept)])

  const removed = await removedByTransaction(index)
  expect(Math.max(...removed)).toBeLessThanOrEqual(REMOVED_MAX)
  expect(removed).toHaveLength(Math.ceil(4_996 / REMOVED_MAX))
  expect(applied).toMatchObject({ removed: 4_996, inserted: 0, stale: 0 })
  const { rows } = await index.db.query<{ uri: string }>(`select uri from "like" order by uri`)
  expect(rows.map(({ uri }) => uri)).toEqual(kept.map(uriOf))
  expect(await countOf(index, 'notification')).toBe(kept.length)
  expect(await countOf(index, `record where uri like '%feed.like%'`)).toBe(kept.length)
  expect(await wrongCounters(index.db, set)).toEqual([])
})

test('C6 the ranges of several accounts in one batch are bounded together', async ({ database }) => {
  const story = new Story()
  await using index = indexOn(database)
  const names = Array.from({ length: 20 }, (_, i) => `ann${String.fromCharCode(97 + i)}`)
  await apply(index, likesOf(story, names, 250))
  const last = story.post('zoe', 'in the same batch')
  const applied = await applyBatch(index, [...names.map((name) => emptied(story, name)), last])
  expect(applied).toMatchObject({ removed: 5_000, inserted: 1 })
  const removed = await removedByTransaction(index)
  expect(Math.max(...removed)).toBeLessThanOrEqual(REMOVED_MAX)
  expect(removed.length).toBeLessThanOrEqual(4)
  expect(await countOf(index, '"like"')).toBe(0)
  expect(await wrongCounters(index.db, set)).toEqual([])
})

test('C6 between two parts of what a range removes others have their turn, the account of the range too', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const likes = likesOf(story, ['ann'], 30)
  const late = [story.post('ann', 'older than the export'), story.delete(likes[1] as CreateEvent)]
  const emptying = emptied(story, 'ann', [likes.at(-1) as CreateEvent])
  const newer = [story.post('ann', 'newer'), story.delete(likes.at(-1) as CreateEvent), story.post('zoe', 'another')]
  const last = story.post('zoe', 'in the same batch')
  await using natural = indexOn(database)
  await apply(natural, [...likes, ...late, emptying, ...newer, last])
  await using index = indexOn(otherDatabase)
  await apply(index, likes)
  const waiting = [...newer, ...late]
  const between = async (): Promise<void> => void (await applyBatch(index, waiting.splice(0, 1)))
  await applyBatch(index, [emptying, last], { batchRecords: 4, between })
  expect(waiting).toEqual([])
  expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])
  expect(await wrongCounters(index.db, set)).toEqual([])
})

test('C6 records at the very rev of the range, which it cannot remove, do not hold it up', async ({ database }) => {
  const story = new Story()
  await using index = indexOn(database)
  const likes = likesOf(story, ['ann'], 30)
  await apply(index, likes)
  const rev = emptied(story, 'ann').rev
  const same = likes.map((event) => (event.did === story.did('ann') ? { ...event, rev } : event)) as CreateEvent[]
  await apply(index, same)
  const range = { ...emptied(story, 'ann'), rev }
  expect(await applyBatch(index, [range], { batchRecords: 4 })).toMatchObject({ removed: 0, stale: 30 })
  expect(await countOf(index, '"like"')).toBe(30)
})

test('C6 an older export that comes after a newer one removes nothing, and is not gone through in parts', async ({
  database,
}) => {
  const story = new Story()
  await using index = indexOn(database)
  const events = likesOf(story, ['ann'], 30)
  const likes = events.filter(({ did }) => did === story.did('ann')) as CreateEvent[]
  const older = emptied(story, 'ann')
  await apply(index, events)
  await apply(index, [emptied(story, 'ann', likes)])
  expect(await applyBatch(index, [older], { batchRecords: 4 })).toMatchObject({ removed: 0, stale: 0 })
  expect(await countOf(index, '"like"')).toBe(30)
})

test('C6 ranges are cut at the same records, however the database sorts, and read from the primary key', async ({
  database,
}) => {
  const story = new Story()
  await using index = indexOn(database)
  const likes = likesOf(story, ['ann', 'bob'], 600)
  await apply(index, likes)
  const kept = likes.filter((event, i) => event.did === story.did('ann') && i % 3 === 0) as CreateEvent[]
  const { ranges } = prepare(set, [emptied(story, 'ann', kept), emptied(story, 'bob'), emptied(story, 'cat')])
  const [byBytes, byLanguage] = await Promise.all(
    [true, false].map((bytes) => Array.fromAsync(inParts(index.db, ranges, bytes, 150))),
  )
  expect(byBytes).toEqual(byLanguage)
  // Of ann's 400, two parts are full; of bob's 600, four; what is left of all is one.
  expect(byBytes!.map((part) => part.length)).toEqual([1, 1, 1, 1, 1, 1, 3])
  for (const of of Map.groupBy(byBytes!.flat(), ({ did }) => did).values()) {
    expect(['', ...of.map(({ to }) => to)]).toEqual([...of.map(({ from }) => from), ''])
  }

  await index.db.query('analyze record')
  const { name: _, text } = recordsInRanges(true)
  const [did, from, to] = [story.did('bob'), `at://${story.did('bob')}/`, `at://${story.did('bob')}0`]
  const { rows } = await index.db.query<{ 'QUERY PLAN': string }>(`explain (costs off) ${text}`, [
    [did],
    [from],
    [to],
    ['3zzzzzzzzzzzz'],
    [10],
  ])
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
  expect(plan).toMatch(/record_pkey[^]*Index Cond: \(\(.*uri.* >= r\."from"\) AND \(.*uri.* < r\."to"\)\)/)
})

describe.each(SEEDS)('seed %i', (seed) => {
  test('C6 C1 exports and live events, their ranges in parts that are interrupted, end as the natural order', async ({
    database,
    otherDatabase,
  }) => {
    const random = new Random(seed * 104_729)
    const events = firstVersions(history({ seed: seed + 900, events: EVENTS }))
    await using natural = indexOn(database)
    await apply(natural, events, 20)
    await using index = indexOn(otherDatabase)
    // Two exports of each account, of different moments, in one chunk or a few: ranges overlap, and cover much.
    const exports = [...new Set(events.map(({ did }) => did))].flatMap((did) =>
      [0.6, 0.9].flatMap((from) => {
        const until = events.slice(0, Math.ceil(events.length * (from + random.below(10) / 100)))
        const time = new Date(Date.parse(until.at(-1)!.time) + 1).toISOString()
        return exportOf({ until, did, time, random, chunk: 60 }).flat()
      }),
    )
    // What an export removes has to be there: creates come first, most deletions late.
    const isLate = ({ type }: StreamEvent): boolean => type === 'repo' || (type === 'delete' && random.chance(0.8))
    const all = [...events, ...exports, ...exports.filter(() => random.chance(0.2))]
    const delivered = [
      ...random.shuffled(all.filter((e) => !isLate(e))),
      ...random.shuffled([...all.filter(({ type }) => type === 'repo' || type === 'delete'), ...events]),
    ]
    let interruptions = 0
    for (let at = 0; at < delivered.length;) {
      const size = 1 + random.below(60)
      interruptions += await applyInterrupted(index, delivered.slice(at, at + size), 1 + random.below(3))
      at += size
    }
    expect(interruptions).toBeGreaterThan(0)
    const { actor_sync: _, ...wanted } = await snapshot(natural.db, { withoutTimes: true })
    const { actor_sync: __, ...found } = await snapshot(index.db, { withoutTimes: true })
    expect(differences(wanted, found)).toEqual([])
    expect(await wrongCounters(index.db, set)).toEqual([])
  })
})

test('C6 a batch that is given up between two parts and applied again ends as one that was not', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const events = likesOf(story, ['ann', 'bob'], 40)
  const before = events.filter((event) => 'collection' in event && event.did === story.did('ann')) as CreateEvent[]
  // Of the account itself: below the range's rev and above it; a record that is gone is written anew.
  const late = story.like('ann', events[0] as CreateEvent)
  const repo = emptied(story, 'ann', before.slice(3, 5))
  const anew: CreateEvent = { ...before[10]!, seq: 9_999, rev: story.post('ann', 'a later rev').rev }
  const batch: StreamEvent[] = [anew, emptied(story, 'bob'), repo, late, story.post('ann', 'afterwards')]
  await using whole = indexOn(database)
  await using index = indexOn(otherDatabase)
  for (const one of [whole, index]) await apply(one, events)
  await applyBatch(whole, batch)
  const interruptions = await applyInterrupted(index, batch, 7)
  expect(interruptions).toBeGreaterThan(5)
  const removed = await removedByTransaction(index)
  expect(Math.max(...removed)).toBeLessThanOrEqual(7)
  expect(differences(await snapshot(whole.db), await snapshot(index.db))).toEqual([])
  expect(await countOf(index, '"like"')).toBe(3)
  expect(await wrongCounters(index.db, set)).toEqual([])
})

/** The index's plugins; whoever asks what a batch affects finds them broken until `mend` is called. */
function brokenAfterCommit(index: Index): { index: Index; mend: () => void; failures: () => number } {
  let isBroken = true
  let failures = 0
  const plugins = collections.map((plugin) =>
    plugin.affects === undefined
      ? plugin
      : {
          ...plugin,
          affects: (...asked: Parameters<typeof plugin.affects>) => {
            if (!isBroken) return plugin.affects!(...asked)
            failures++
            return Promise.reject(new Error('it broke after the commit'))
          },
        },
  )
  const mend = (): void => void (isBroken = false)
  return { index: { ...index, collections: new CollectionSet(plugins) }, mend, failures: () => failures }
}

test('C6 what a range removed is settled when its batch comes again, though nothing of it is left to remove', async ({
  database,
}) => {
  await using index = indexOn(database)
  const story = new Story()
  const root = story.post('ann', 'root')
  const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow: [] }, root.rkey)
  await apply(index, [root, gate], 1)
  const gated = 'post where "hasThreadGate"'
  expect(await countOf(index, gated)).toBe(1)

  const range = emptied(story, 'ann', [root])
  const broken = brokenAfterCommit(index)
  await expect(applyBatch(broken.index, [range])).rejects.toThrow('it broke after the commit')
  expect(broken.failures()).toBeGreaterThan(0)
  expect(await countOf(index, 'thread_gate')).toBe(0)
  expect(await countOf(index, gated)).toBe(1)

  broken.mend()
  await applyBatch(broken.index, [range])
  expect(await countOf(index, gated)).toBe(0)
})
