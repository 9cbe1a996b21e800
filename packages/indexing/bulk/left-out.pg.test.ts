/** What the end of a bulk load leaves out makes no difference; and it is left out, however large the tables are. */
import { streamEventCodec } from '@sluice/events/codec.ts'
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from '../apply-batch.ts'
import { mention } from '../testing/embeds.ts'
import { indexOn as openIndex } from '../testing/index-on.ts'
import { differences, snapshot } from '../testing/snapshot.ts'
import { Story } from '../testing/story.ts'
import { beginBulkLoad } from './begin.ts'
import { finishBulkLoad } from './finish.ts'

const indexOn = (url: string): Index & AsyncDisposable => openIndex(url, { size: 6, byKey: false, statementMs: 0 })

async function finish({ db, collections }: Index): Promise<void> {
  await finishBulkLoad(db, collections, { signal: new AbortController().signal })
}

/** The transactions by which each post was written and locked. */
async function writersOf({ db }: Index): Promise<Map<string, string>> {
  const { rows } = await db.query<{ uri: string; writers: string }>(
    `select uri, xmin::text || ' ' || xmax::text as writers from post`,
  )
  return new Map(rows.map(({ uri, writers }) => [uri, writers]))
}

/** As another writer of JSON might have it, and as it is stored. */
function withEscape(event: StreamEvent): StreamEvent {
  const { event: text } = streamEventCodec.encode(event) as { event: string }
  expect(text).toContain('#mention')
  return streamEventCodec.decode({ event: text.replace('#mention', '#\\u006dention') })
}

/** Each kind of post on which something hangs, by itself, and posts on which nothing does. */
function everyKind(): { events: StreamEvent[]; alone: string[] } {
  const story = new Story()
  const [root, quoted, plain, tagged] = [
    story.post('ann', 'answered'),
    story.post('ann', 'quoted'),
    story.post('ann', 'nothing hangs on this'),
    story.post('bob', 'a tag is no mention', {
      tags: ['mention'],
      facets: [{ index: { byteStart: 0, byteEnd: 1 }, features: [{ $type: 'app.bsky.richtext.facet#tag', tag: 'a' }] }],
    }),
  ]
  const gated = story.post('ann', 'nobody may answer')
  const closed = story.post('ann', 'nobody may quote')
  const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(gated), allow: [] }, gated.rkey)
  const disable = [{ $type: 'app.bsky.feed.postgate#disableRule' }]
  const lock = story.put('ann', 'app.bsky.feed.postgate', { post: uriOf(closed), embeddingRules: disable }, closed.rkey)
  const never = new Story().post('zoe', 'never indexed')
  const to = (name: string): object => ({ facets: [mention(story.did(name))] })
  const events: StreamEvent[] = [
    root,
    quoted,
    plain,
    tagged,
    gated,
    closed,
    gate,
    lock,
    story.reply('bob', root),
    story.reply('cat', never),
    story.reply('bob', gated),
    story.quote('bob', quoted),
    story.quote('bob', closed),
    story.post('bob', 'hello', to('ann')),
    withEscape(story.post('cat', 'hello', to('bob'))),
  ]
  return { events, alone: [root, quoted, plain, tagged].map(uriOf) }
}

test('C1 the end of a load derives each post on which something may hang, and no other', async ({
  database,
  otherDatabase,
}) => {
  const { events, alone } = everyKind()
  await using naturally = indexOn(database)
  for (const event of events) await applyBatch(naturally, [event])
  await using index = indexOn(otherDatabase)
  await beginBulkLoad(index.db, index.collections)
  await applyBatch(index, events)
  const loaded = await writersOf(index)
  await finish(index)
  expect(differences(await snapshot(naturally.db), await snapshot(index.db))).toEqual([])
  const { rows } = await index.db.query<{ reason: string }>('select distinct reason from notification order by 1')
  expect(rows.map(({ reason }) => reason)).toEqual(['mention', 'quote', 'reply'])
  const left = [...(await writersOf(index))].flatMap(([uri, writers]) => (loaded.get(uri) === writers ? [uri] : []))
  expect(left.sort()).toEqual(alone.sort())
})

test('what is derived at the end of a load is found by key, though the tables were empty when they were counted', async ({
  database,
}) => {
  const story = new Story()
  const post = story.post('ann', 'hello')
  const rule = [{ $type: 'app.bsky.feed.threadgate#mentionRule' }]
  const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(post), allow: rule }, post.rkey)
  const replies = Array.from({ length: 40 }, (_, n) => story.reply(`bob${n}`, post))
  {
    await using loading = indexOn(database)
    await beginBulkLoad(loading.db, loading.collections)
    await applyBatch(loading, [post, gate, ...replies])
    await finish(loading)
  }
  await using index = indexOn(database)
  // A backend that is gone has told of all that it scanned.
  const others = `select from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`
  await expect.poll(async () => (await index.db.query(others)).rows.length).toBe(0)
  const scans = async (of: string): Promise<number> => {
    const text = `select pg_stat_get_numscans($1::regclass)::int as n`
    return (await index.db.query<{ n: number }>(text, [of])).rows[0]!.n
  }
  expect(await scans('gated_reply_pkey')).toBeGreaterThan(0)
  expect(await scans('gated_reply')).toBe(0)
  expect((await index.db.query('select from gated_reply')).rows).toHaveLength(replies.length)
})

test('when a load is finished the planner has been told of every table', async ({ database }) => {
  await using index = indexOn(database)
  await beginBulkLoad(index.db, index.collections)
  await finish(index)
  const uncounted = async (): Promise<string[]> => {
    const { rows } = await index.db.query<{ name: string }>(`
      select relname as name from pg_class
      where relnamespace = $1::regnamespace and relkind = 'r' and pg_stat_get_analyze_count(oid) = 0`, [index.db.schema]) // prettier-ignore
    return rows.map(({ name }) => name)
  }
  await expect.poll(uncounted).toEqual([])
})
