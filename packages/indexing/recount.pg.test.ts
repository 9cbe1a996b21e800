/** A recount mends every counter that is wrong and breaks none that is right, whatever two indexers write meanwhile. */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections as plugins } from '@sluice/collections/collections.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Load } from '@sluice/sandbox/load.ts'
import { uriOf } from '@sluice/events/stream-event.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { beginBulkLoad } from './bulk/begin.ts'
import { KnownActors } from './own.ts'
import { aggregatesOf, recountKeys, recountStep, type Aggregate, type WrongCounter } from './recount.ts'
import { indexOn } from './testing/index-on.ts'
import { Story } from './testing/story.ts'

const EVENTS = Number(process.env.EVENTS ?? 6_000)
const BATCH = 150
const collections = new CollectionSet(plugins)
const aggregates = aggregatesOf(collections)

test('counters are right after a recount beside two indexers, and a second one finds nothing', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 6, role: 'test' })
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
  console.log(`seed ${seed}`)
  // Few accounts: their counters are wanted by every batch.
  const events = new Load({ seed, accounts: 40 }).take(EVENTS)
  const index = { db, collections, actors: new KnownActors() }
  const [first, rest] = [events.slice(0, EVENTS / 3), events.slice(EVENTS / 3)]
  for (let i = 0; i < first.length; i += BATCH) await applyBatch(index, first.slice(i, i + BATCH))
  await db.query(`update post_agg set "likeCount" = "likeCount" + 7 where uri in (select uri from post_agg order by uri limit 50)`) // prettier-ignore
  await db.query('delete from profile_agg where did in (select did from profile_agg order by did limit 5)')

  const work = { done: false }
  const indexer = async (half: number): Promise<void> => {
    for (let i = half * BATCH; i < rest.length; i += 2 * BATCH) await applyBatch(index, rest.slice(i, i + BATCH))
  }
  const writers = Promise.all([indexer(0), indexer(1)]).finally(() => (work.done = true))
  const passes: number[] = []
  do passes.push((await recountAll(db, false)).length)
  while (!work.done)
  await writers
  expect(passes[0]).toBeGreaterThanOrEqual(50)
  expect(passes.length, 'recounts while batches were written').toBeGreaterThan(1)
  expect(await recountAll(db, true)).toEqual([])
  expect(
    passes.slice(1).every((wrong) => wrong === 0),
    `wrong in later passes: ${passes.join(', ')}`,
  ).toBe(true)
})

test('a check changes nothing, one key is one key, and a run goes on where it was stopped', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  const posts = aggregates.find(({ table }) => table === 'post_agg')!
  await db.query(`insert into post_agg (uri, "likeCount") select 'at://did:plc:a/app.bsky.feed.post/' || n, 3 from generate_series(10, 39) n`) // prettier-ignore
  expect(await recountAll(db, true)).toHaveLength(30)
  expect(await recountAll(db, true)).toHaveLength(30)
  const [one] = await recountKeys(db, posts, ['at://did:plc:a/app.bsky.feed.post/20'])
  expect(one).toEqual({ key: 'at://did:plc:a/app.bsky.feed.post/20', columns: { likeCount: { was: 3, is: 0 } } })
  const step = await recountStep(db, posts, { keys: 10 })
  expect(step).toMatchObject({ keys: 10, after: 'at://did:plc:a/app.bsky.feed.post/19' })
  const next = await recountStep(db, posts, { keys: 100, after: step.after! })
  expect(next).toMatchObject({ keys: 20, after: undefined })
  expect(next.wrong).toHaveLength(19)
  expect(await recountAll(db, true)).toEqual([])
})

test('whoever has a list has a row, though nothing of them is counted', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  await db.query(`insert into list (uri, cid, creator, name, purpose, "createdAt", "indexedAt") values ('at://did:plc:a/app.bsky.graph.list/1', 'bafy', 'did:plc:a', '', '', '', '')`) // prettier-ignore
  await recountAll(db, false)
  const { rows } = await db.query('select did, "postsCount"::int as posts from profile_agg')
  expect(rows).toEqual([{ did: 'did:plc:a', posts: 0 }])
})

describe('C2 what is counted for the first time is right, whatever a batch writes meanwhile', () => {
  const posts = aggregates.find(({ table }) => table === 'post_agg')!
  const story = new Story()
  const [post, other] = [story.post('ann', 'liked'), story.post('ann', 'liked too')]
  const likes = [story.like('bob', post), story.like('cat', post), story.like('bob', other)]
  const late = story.like('dan', post)

  async function loaded(url: string): Promise<Index & AsyncDisposable> {
    const index = indexOn(url, { size: 6, statementMs: 0 })
    await beginBulkLoad(index.db, index.collections)
    await applyBatch(index, [post, other, ...likes])
    await index.db.query(`update bulk_load set phase = 'finishing'`)
    return index
  }

  const waiting = (db: DatabasePool) => async (): Promise<number> => {
    const text = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
    return (await db.query(text)).rows.length
  }

  async function likesOf({ db }: Index): Promise<number[]> {
    const { rows } = await db.query<{ n: number }>('select "likeCount"::int as n from post_agg order by uri')
    return rows.map(({ n }) => n)
  }

  test('by one that has not counted yet', async ({ database }) => {
    await using index = await loaded(database)
    const { db } = index
    // Its rows are written; before it counts them it waits to tell whose post is liked.
    const holder = await db.acquire()
    await holder.query('begin')
    await holder.query('lock table notification in share row exclusive mode')
    const batch = applyBatch(index, [late])
    await expect.poll(waiting(db)).toBe(1)
    await recountStep(db, posts, { byKey: db })
    expect(await likesOf(index)).toEqual([2, 1])
    await holder.query('commit')
    holder.release()
    await batch
    expect(await likesOf(index)).toEqual([3, 1])
  })

  test('by one that has counted and is not durable yet', async ({ database }) => {
    await using index = await loaded(database)
    const { db } = index
    const client = await db.acquire()
    await client.query('begin')
    await client.query(`insert into post_agg (uri, "likeCount") values ($1, 1)`, [uriOf(post)])
    await client.query(
      `insert into "like" (uri, cid, creator, subject, "subjectCid", "createdAt", "indexedAt") values ($1, '', $2, $3, '', '', '')`,
      [uriOf(late), late.did, uriOf(post)],
    )
    const step = recountStep(db, posts, { byKey: db })
    await expect.poll(waiting(db)).toBe(1)
    await client.query('commit')
    client.release()
    expect((await step).keys).toBe(2)
    expect(await likesOf(index)).toEqual([3, 1])
  })

  test('by one that took away what had not been counted', async ({ database }) => {
    await using index = await loaded(database)
    await applyBatch(index, [story.delete(likes[2]!)])
    expect(await likesOf(index)).toEqual([-1])
    await recountStep(index.db, posts, { byKey: index.db })
    expect(await likesOf(index)).toEqual([2, 0])
  })
})

async function recountAll(db: DatabasePool, check: boolean): Promise<WrongCounter[]> {
  const wrong: WrongCounter[] = []
  const all = async (aggregate: Aggregate): Promise<void> => {
    for (let after: string | undefined = ''; after !== undefined;) {
      const step = await recountStep(db, aggregate, { after, keys: 100, check })
      wrong.push(...step.wrong)
      after = step.after
    }
  }
  for (const aggregate of aggregates) await all(aggregate)
  return wrong
}
