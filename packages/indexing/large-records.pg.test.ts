/**
 * C1: a few small events may make an indexer look at much that is stored: what it holds of that at a time has a bound.
 */
import { uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { LOADED_BYTES, mapEntries } from './entry.ts'
import { indexOn } from './testing/index-on.ts'
import { applyInHeap } from './testing/apply-in-heap.ts'
import { Story } from './testing/story.ts'

/** A batch of small records takes 60; what is blown up here takes 20 for each record, and more than this for all. */
const HEAP_MB = 200
const RECORDS = 12
/** Half of what a record may hold; each costs 3 bytes of JSON and 40 in memory. */
const ARRAYS = 500_000

/** As if they had been written so. */
async function blowUp({ db }: Index, events: readonly CreateEvent[], arrays = ARRAYS): Promise<void> {
  const { rowCount } = await db.query(
    `update record set json = left(json, -1) || ',"junk":[' || repeat('[],', $2) || '[]]}' where uri = any($1::text[])`,
    [events.map(uriOf), arrays],
  )
  expect(rowCount).toBe(events.length)
}

test('C1 deletions of large records are applied in a heap that holds only some of these', async ({ database }) => {
  await using index = indexOn(database)
  const story = new Story()
  const posts = Array.from({ length: RECORDS }, (_, n) => story.post('mallory', `post ${n}`))
  await applyBatch(index, posts)
  await blowUp(index, posts)
  const deletions: StreamEvent[] = posts.map((event) => story.delete(event))
  expect(await applyInHeap(database, deletions, HEAP_MB)).toMatchObject({ removed: RECORDS })
  const facts = await index.db.query<{ uri: string }>(`select uri from past_fact where key = uri order by uri`)
  expect(facts.rows.map(({ uri }) => uri)).toEqual(posts.map(uriOf).sort())
})

test('C1 a range removes posts with 10,000 mentions each in a heap that holds what some of these leave behind', async ({
  database,
}) => {
  await using index = indexOn(database)
  const story = new Story()
  const posts = Array.from({ length: 150 }, (_, n) => story.post('mallory', `post ${n}`))
  await applyBatch(index, posts)
  await index.db.query(`
    with mentions as materialized (
      select string_agg('{"$type":"app.bsky.richtext.facet#mention","did":"did:plc:' || lpad(n::text, 24, 'a') || '"}', ',') as all
      from generate_series(1, 10000) n
    )
    update record set json = left(json, -1) || ',"facets":[{"index":{"byteStart":0,"byteEnd":1},"features":[' || mentions.all || ']}]}'
    from mentions`)
  const { did, commit, time } = posts[0]!
  const range: StreamEvent = { type: 'repo', did, commit, rev: '3zzzzzzzzzzzz', time, range: ['', ''], keys: [] }
  // Each leaves 0.6 MB, and 0.35 as text.
  expect(await applyInHeap(database, [range], 120)).toMatchObject({ removed: posts.length })
  const { rows } = await index.db.query<{ uri: string }>(
    `select uri from past_fact where key = uri and jsonb_array_length(fact -> 'mentions') = 10000 order by uri`,
  )
  expect(rows.map(({ uri }) => uri)).toEqual(posts.map(uriOf))
})

test('C1 large replies are judged again in a heap that holds only some of them', async ({ database }) => {
  await using index = indexOn(database)
  const story = new Story()
  const root = story.post('alice', 'the root')
  const gate = story.put('alice', 'app.bsky.feed.threadgate', { post: uriOf(root), allow: [] }, root.rkey)
  const replies = Array.from({ length: RECORDS }, () => story.reply('mallory', root))
  await applyBatch(index, [root, ...replies])
  await blowUp(index, replies)
  expect(await applyInHeap(database, [gate], HEAP_MB)).toMatchObject({ settled: RECORDS + 1 })
  const { rows } = await index.db.query<{ uri: string }>('select uri from post where "violatesThreadGate" order by uri')
  expect(rows.map(({ uri }) => uri)).toEqual(replies.map(uriOf).sort())
})

test('C1 large duplicates take over in a heap that holds only some of them', async ({ database }) => {
  await using index = indexOn(database)
  const story = new Story()
  const posts = Array.from({ length: RECORDS }, (_, n) => story.post('alice', `post ${n}`))
  const likes = posts.map((post) => story.like('mallory', post))
  const again = posts.map((post) => story.like('mallory', post))
  await applyBatch(index, [...posts, ...likes, ...again])
  await blowUp(index, again)
  const deletions: StreamEvent[] = likes.map((event) => story.delete(event))
  expect(await applyInHeap(database, deletions, HEAP_MB)).toMatchObject({ removed: RECORDS })
  for (const held of ['select uri from "like"', 'select "recordUri" as uri from notification']) {
    const { rows } = await index.db.query<{ uri: string }>(`${held} order by uri`)
    expect(rows.map(({ uri }) => uri)).toEqual(again.map(uriOf).sort())
  }
})

test('C1 stored records are loaded in parts of so many bytes, each once; small ones in one', async ({ database }) => {
  await using index = indexOn(database)
  const story = new Story()
  const posts = Array.from({ length: 40 }, (_, n) => story.post('mallory', `post ${n}`))
  await applyBatch(index, posts)
  const loaded: number[] = []
  const counting: Parameters<typeof mapEntries>[0] = {
    async query(...args) {
      const answer = await index.db.query(...args)
      loaded.push(answer.rows.reduce((bytes: number, { json }) => bytes + ((json as string | null)?.length ?? 0), 0))
      return answer as never
    },
  }
  const load = (): Promise<string[]> =>
    mapEntries(
      counting,
      index.collections,
      posts.map(uriOf),
      ({ entry }) => `${entry.uri} ${JSON.stringify(entry.record).length}`,
    )
  expect(await load()).toHaveLength(40)
  expect(loaded).toHaveLength(1)

  const large = posts.filter((_, i) => i % 3 === 0)
  await blowUp(index, large, 300_000)
  loaded.length = 0
  const found = await load()
  expect(new Set(found.map((line) => line.split(' ')[0]))).toEqual(new Set(posts.map(uriOf)))
  expect(found).toHaveLength(40)
  const most = 300_000 * 3 + 1_000
  expect(Math.max(...loaded)).toBeLessThan(LOADED_BYTES + most)
  expect(loaded.length).toBeLessThanOrEqual(1 + Math.ceil((large.length * most) / LOADED_BYTES))
})
