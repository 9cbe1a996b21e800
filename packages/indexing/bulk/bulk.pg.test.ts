/** The promises hold on the bulk path too: the same events end in the same rows, whatever is interrupted. */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections, tableScripts } from '@sluice/collections/collections.ts'
import { compareCatalogs, readCatalog, type Catalog } from '@sluice/database/catalog.ts'
import { migrate } from '@sluice/database/migrate.ts'
import { DatabasePool, type Session } from '@sluice/database/pool.ts'
import { uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from '../apply-batch.ts'
import { indexOn as openIndex } from '../testing/index-on.ts'
import { mention } from '../testing/embeds.ts'
import { history } from '../testing/history.ts'
import { differences, snapshot } from '../testing/snapshot.ts'
import { Story } from '../testing/story.ts'
import { whileHeld } from '../testing/while-held.ts'
import { beginBulkLoad } from './begin.ts'
import { tellApart } from './duplicates.ts'
import { finishBulkLoad } from './finish.ts'
import type { FinishProgress } from './step.ts'
import { bulkPhase } from './phase.ts'

const set = new CollectionSet(collections)
const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2]
const EVENTS = Number(process.env.EVENTS ?? 400)

const indexOn = (url: string): Index & AsyncDisposable => openIndex(url, { size: 6, byKey: false, statementMs: 0 })

async function catalogOf({ db }: Index): Promise<Catalog> {
  const client = await db.acquire()
  try {
    await client.query('begin')
    return await readCatalog(client, SCHEMA)
  } finally {
    client.release(true)
  }
}

async function apply(index: Index, events: readonly StreamEvent[], size: () => number): Promise<void> {
  for (let at = 0; at < events.length;) {
    const n = size()
    await applyBatch(index, events.slice(at, at + n))
    at += n
  }
}

/**
 * Interrupts the end of the load at each of its first stations, and begins again, until it runs through. Returns how
 * often it was interrupted.
 */
async function finishWithInterruptions(index: Index, every: number): Promise<number> {
  for (let interruptions = 0; ; interruptions++) {
    const stop = new AbortController()
    let stations = 0
    const onProgress = (): void => {
      if (++stations > every * (interruptions + 1)) stop.abort()
    }
    try {
      await finishBulkLoad(index.db, set, { signal: stop.signal, onProgress })
      return interruptions
    } catch (error) {
      if (!stop.signal.aborted) throw error
    }
  }
}

describe.each(SEEDS)('seed %i', (seed) => {
  const events = history({ seed, events: EVENTS })
  const random = new Random(seed)

  test('C1: a bulk load, with live events before, during and after its end, ends in the rows of the natural order', async ({
    database,
    otherDatabase,
  }) => {
    await using naturally = indexOn(database)
    await apply(naturally, events, () => 1)
    await using index = indexOn(otherDatabase)
    const before = await catalogOf(index)
    const dropped = await beginBulkLoad(index.db, set)
    expect(dropped.length).toBeGreaterThan(30)
    const delivered = random.shuffled([...events, ...events.filter(() => random.chance(0.3))])
    const loaded = delivered.splice(0, Math.floor(delivered.length * 0.6))
    const lanes = [0, 1, 2].map((lane) => loaded.filter((_, i) => i % 3 === lane))
    await Promise.all(lanes.map((lane) => apply(index, lane, () => 1 + random.below(60))))
    expect(await bulkPhase(index.db)).toBe('loading')
    const [interruptions] = await Promise.all([
      finishWithInterruptions(index, 5),
      apply(index, delivered, () => 1 + random.below(20)),
    ])
    expect(interruptions).toBeGreaterThan(3)
    expect(await bulkPhase(index.db)).toBeUndefined()
    expect(differences(await snapshot(naturally.db), await snapshot(index.db))).toEqual([])
    expect(compareCatalogs(before, await catalogOf(index))).toEqual({ missing: [], different: [], extra: [] })
    // And it stays so.
    await apply(index, random.shuffled(events), () => 50)
    expect(differences(await snapshot(naturally.db), await snapshot(index.db))).toEqual([])
  })
})

test('C4 while duplicates are told apart their account is held, whatever their key names', async ({ database }) => {
  await using index = indexOn(database)
  await beginBulkLoad(index.db, set)
  const items = history({ seed: 6, events: 400 }).filter(({ collection }) => collection === 'app.bsky.graph.listitem')
  const item = items.find(({ type }) => type === 'create')!
  const twin = { ...item, rkey: `${item.rkey.slice(0, -1)}z` }
  await applyBatch(index, [item, twin])
  await whileHeld(index, ['select from actor_sync where did = $1 for update', item.did], async (waiting) => {
    const told = tellApart({ db: index.db, collections: set, signal: new AbortController().signal, onProgress() {} })
    await waiting(1)
    return [told]
  })
  const { rows } = await index.db.query<{ uri: string }>('select uri from list_item')
  expect(rows).toEqual([{ uri: uriOf(item) }])
})

test('C4 however many duplicates there are, so many are held at a time', async ({ database }) => {
  await using index = indexOn(database)
  await beginBulkLoad(index.db, set)
  const story = new Story()
  const posts = Array.from({ length: 7 }, (_, n) => story.post('ann', `post ${n}`))
  const likes = posts.map((post) => story.like('bob', post))
  await applyBatch(index, [...posts, ...likes, ...posts.map((post) => story.like('bob', post))])
  let most = 0
  class Watched extends DatabasePool {
    override session<T>(work: (session: Session) => Promise<T>): Promise<T> {
      return super.session((session) =>
        work({
          async query(...args) {
            const answer = await session.query(...args)
            most = Math.max(most, answer.rows.length)
            return answer as never
          },
        }),
      )
    }
  }
  await using db = new Watched({ url: database, schema: SCHEMA, size: 2, role: 'test' })
  const { signal } = new AbortController()
  await tellApart({ db, collections: set, signal, onProgress() {} }, 3)
  expect(most).toBe(3)
  const { rows } = await db.query<{ uri: string }>('select uri from "like" order by uri')
  expect(rows.map(({ uri }) => uri)).toEqual(likes.map(uriOf))
})

test('C5 a verdict that is found at the end of a load goes down its thread, though it was interrupted halfway', async ({
  database,
}) => {
  await using index = indexOn(database)
  await beginBulkLoad(index.db, set)
  const story = new Story()
  // In the order of their URIs, in which they are derived: the lower half of the thread, as many others as one
  // transaction takes, the upper half. Of the root nothing is known.
  const thread = [story.post('ann', 'root')]
  for (const name of ['cat', 'cleo', 'coco', 'cora', 'abe', 'ada', 'al', 'amy', 'art'])
    thread.push(story.reply(name, thread.at(-1)!))
  const replies = thread.slice(1)
  const hello = { facets: [mention(story.did('ann'))] }
  const others = Array.from({ length: 1_000 }, (_, n) => story.post('bob', `post ${n}`, hello))
  await applyBatch(index, [...replies, ...others])
  await index.db.query(`
    create function disk_full() returns trigger language plpgsql as $$ begin raise exception 'full' using errcode = '53100'; end $$`)
  await index.db.query(`
    create trigger disk_full before update on post for each row when (new.uri = '${uriOf(replies[4]!)}') execute function disk_full()`)
  const { signal } = new AbortController()
  await expect(finishBulkLoad(index.db, set, { signal, jobs: 1 })).rejects.toBeInstanceOf(TransientError)
  await index.db.query('drop trigger disk_full on post')
  await finishBulkLoad(index.db, set, { signal, jobs: 1 })
  const { rows } = await index.db.query<{ uri: string }>('select uri from post where "invalidReplyRoot" order by uri')
  expect(rows.map(({ uri }) => uri)).toEqual(replies.map(uriOf).sort())
})

test.for([
  { what: 'deleted', end: (story: Story, post: CreateEvent): StreamEvent => story.delete(post) },
  {
    what: 'deleted, while a build finished that kept no account of when it began,',
    end: (story: Story, post: CreateEvent): StreamEvent => story.delete(post),
    isOlder: true,
  },
  {
    what: 'made a post that answers nothing',
    end: (story: Story, post: CreateEvent): StreamEvent => ({
      ...story.post('zed', 'no reply'),
      type: 'update',
      rkey: post.rkey,
    }),
  },
])(
  'C5 what was judged at the end of a load goes by the post above it as it was, though that is $what before it is its turn',
  async ({ end, isOlder = false }, { database, otherDatabase }) => {
    const story = new Story()
    const missing = story.post('zoe', 'never indexed')
    const above = story.reply('zed', missing)
    const below = story.reply('ann', above)
    // More than a page lie between them.
    const others = Array.from({ length: 2_500 }, (_, n) => story.post('bob', `post ${n}`))
    const ended = end(story, above)
    await using naturally = indexOn(database)
    for (const event of [above, below, ended]) await applyBatch(naturally, [event])
    await using index = indexOn(otherDatabase)
    await beginBulkLoad(index.db, set)
    await applyBatch(index, [above, below, ...others])
    const stop = new AbortController()
    const onProgress = ({ step, at }: FinishProgress): void => {
      if (step === 'posts' && at !== '') stop.abort()
    }
    await expect(finishBulkLoad(index.db, set, { signal: stop.signal, onProgress, jobs: 1 })).rejects.toThrow('abort')
    const judged = async ({ db }: Index): Promise<unknown[]> => {
      const { rows } = await db.query('select uri, "invalidReplyRoot" as invalid from post where uri = $1', [
        uriOf(below),
      ])
      return rows
    }
    expect(await judged(index)).toEqual([{ uri: uriOf(below), invalid: null }])
    await applyBatch(index, [ended])
    if (isOlder) await index.db.query(`delete from bulk_step where name = 'since'`)
    await finishBulkLoad(index.db, set, { signal: new AbortController().signal, jobs: 1 })
    expect(await judged(naturally)).toEqual([{ uri: uriOf(below), invalid: true }])
    expect(await judged(index)).toEqual(await judged(naturally))
  },
)

test('a bulk load is of the schema that it is told, however that is written', async ({ emptyDatabase }) => {
  const schema = 'Bsky'
  await migrate(emptyDatabase, schema, tableScripts())
  await using db = new DatabasePool({ url: emptyDatabase, schema, size: 6, role: 'test', statementMs: 0 })
  const indexes = async (): Promise<string[]> => {
    const text = `select indexdef from pg_indexes where schemaname = $1 order by indexdef`
    return (await db.query<{ indexdef: string }>(text, [schema])).rows.map(({ indexdef }) => indexdef)
  }
  const before = await indexes()
  const dropped = await beginBulkLoad(db, set)
  expect(dropped.length).toBeGreaterThan(30)
  expect(await indexes()).toHaveLength(before.length - dropped.length)
  await finishBulkLoad(db, set, { signal: new AbortController().signal })
  expect(await indexes()).toEqual(before)
})

test('a bulk load does not begin on an index that holds records, and there is nothing to finish', async ({
  database,
}) => {
  await using index = indexOn(database)
  await apply(index, history({ seed: 9, events: 20 }), () => 20)
  await expect(beginBulkLoad(index.db, set)).rejects.toThrow('begins with an empty index')
  await expect(finishBulkLoad(index.db, set, { signal: new AbortController().signal })).rejects.toThrow(
    'no bulk load is under way',
  )
})
