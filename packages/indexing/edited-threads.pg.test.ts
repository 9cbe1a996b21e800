/**
 * C5: a post that is edited, or deleted and written anew, counts for the replies that were written from then on,
 * whatever arrives first; the others are left alone.
 */
import { affectedByPosts } from '@sluice/collections/threads/affected.ts'
import {
  SEQ_BACKFILL,
  uriOf,
  type CreateEvent,
  type RecordEvent,
  type StreamEvent,
} from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { KnownActors } from './own.ts'
import { sqlOf } from './sql.ts'
import { indexOn } from './testing/index-on.ts'
import { settleAll } from './testing/settle-all.ts'
import { looksOf, othersEnded } from './testing/rows-read.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

async function apply(index: Index, events: readonly StreamEvent[]): Promise<void> {
  for (const event of events) await applyBatch(index, [event])
}

/** Rows that do not tell the way they came. */
async function rowsOf(index: Index): Promise<Snapshot> {
  const { actor_sync: _, ...rows } = await snapshot(index.db, { withoutTimes: true })
  return rows
}

/**
 * How many posts are judged again while `act` runs, when all else has ended: each is locked for it, and a lock leaves
 * its transaction's number.
 */
async function judgedAgain({ db }: Index, act: () => Promise<unknown>): Promise<number> {
  await othersEnded(db)
  const now = await db.query<{ next: string }>('select pg_snapshot_xmax(pg_current_snapshot())::text as next')
  await act()
  const count = 'select count(*)::int as n from post where xmax::text::bigint >= $1::bigint'
  return (await db.query<{ n: number }>(count, [now.rows[0]!.next])).rows[0]!.n
}

test('3,000 replies are left alone when what they answer is edited, once and twice in a batch, deleted and written anew', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const replies = Array.from({ length: 3_000 }, () => story.reply('bob', root))
  const anew = (text: string): CreateEvent => story.put('ann', root.collection, { text }, root.rkey)
  await using index = indexOn(database)
  await applyBatch(index, [root])
  await applyBatch(index, replies)
  const changes = async (): Promise<void> => {
    await applyBatch(index, [anew('edited')])
    await applyBatch(index, [anew('edited again'), anew('and again')])
    await applyBatch(index, [story.delete(root)])
    await applyBatch(index, [anew('back'), anew('and edited'), story.delete(root), anew('and back')])
    await applyBatch(index, [anew('gone soon'), story.delete(root)])
    await settleAll(index)
  }
  expect(await judgedAgain(index, changes)).toBe(0)
  // Of those that were written after it, each is judged again.
  const late = story.delete(root)
  await applyBatch(index, [story.reply('bob', root), story.reply('bob', root)])
  expect(await judgedAgain(index, () => settledAfter(index, [late]))).toBe(2)
})

/** With what the batch puts off. */
async function settledAfter(index: Index, events: readonly StreamEvent[]): Promise<void> {
  await applyBatch(index, events)
  await settleAll(index)
}

test('of 3,000 replies none is judged again when a gate is made for those to come, or taken back', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const replies = Array.from({ length: 3_000 }, () => story.reply('bob', root))
  const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow: [] }, root.rkey)
  const refused = story.reply('bob', root)
  await using index = indexOn(database)
  await applyBatch(index, [root])
  await applyBatch(index, replies)
  // The post itself is marked as gated.
  expect(await judgedAgain(index, () => settledAfter(index, [gate]))).toBe(1)
  await applyBatch(index, [refused])
  expect(await judgedAgain(index, () => settledAfter(index, [story.delete(gate)]))).toBe(1)
  const again = story.put('ann', gate.collection, gate.record, gate.rkey)
  expect(await judgedAgain(index, () => settledAfter(index, [again, story.delete(gate)]))).toBe(1)
  const { rows } = await index.db.query('select uri from post where "violatesThreadGate"')
  expect(rows).toEqual([{ uri: uriOf(refused) }])
})

test('C5 of 3,000 replies none is looked at when what they answer is edited in its text, by commits of now and by such as say that they are of before the replies', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const middle = story.reply('ann', root)
  await using index = indexOn(database, { size: 1 })
  await applyBatch(index, [root, middle])
  const edited = ({ record, rkey }: CreateEvent, text: string): CreateEvent =>
    story.put('ann', root.collection, { ...record, text }, rkey)
  /** An edit in the same second as the post. */
  const early = (post: CreateEvent, clock: string): CreateEvent => ({
    ...edited(post, clock),
    rev: post.rev.slice(0, -clock.length) + clock,
  })
  for (const post of [root, middle]) {
    const replies = Array.from({ length: 3_000 }, () => story.reply('bob', post))
    await applyBatch(index, replies)
    const edits = async (): Promise<void> => {
      await applyBatch(index, [early(post, '3a')])
      await applyBatch(index, [early(post, '3b'), early(post, '3c')])
      await applyBatch(index, [edited(post, 'now')])
    }
    expect(await looksOf(index, edits)).toBeLessThan(500)
  }
})

test('what is written anew in the same words is looked below if the version before had ended by then', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const before = story.reply('bob', root)
  const gone = story.delete(root)
  const between = story.reply('bob', root)
  const anew = story.put('ann', root.collection, root.record, root.rkey)
  const [uri, entry] = [uriOf(root), { ...anew, uri: uriOf(root), live: true, createdAt: anew.time }]
  const touched = { uri, did: root.did, rev: anew.rev, derived: true, follows: true, entry: entry as never }
  await using index = indexOn(database)
  const found = async (): Promise<string[]> =>
    (await index.db.session((session) => affectedByPosts(sqlOf(session), [touched], { unseen: 'nothing' }))).uris
  await apply(index, [root, before, gone, between])
  expect(await found()).toEqual([uriOf(between)])
  await index.db.query('update past_fact set until = $1 where key = $2', [anew.rev, uri])
  expect(await found()).toEqual([])
})

interface Told {
  events: RecordEvent[]
  /** What one of the columns must say of some reply in the end, so that the story is about something. */
  says: string
}

/** A thread of Ann's, a reply in it by Cat, and what is answered to that before and after Cat has written it anew. */
const STORIES: Record<string, (story: Story) => Told> = {
  'edited, out of the thread': (story) => {
    const { gone, events } = leavesThread(story)
    return { events: events.filter((event) => event !== gone), says: '"invalidReplyRoot":true' }
  },
  'deleted and written anew, out of the thread': (story) => ({
    events: leavesThread(story).events,
    says: '"invalidReplyRoot":true',
  }),
  'deleted and written anew in its place': (story) => {
    const { root, parent, before } = answered(story)
    const gone = story.delete(parent)
    const between = story.reply('dan', parent)
    const anew = story.put('cat', parent.collection, { ...parent.record, text: 'again' }, parent.rkey)
    const events = [root, parent, before, gone, between, anew, story.reply('eve', parent)]
    return { events, says: '"invalidReplyRoot":null' }
  },
  'edited in its place, when that was gone': (story) => {
    const { root, parent, before } = answered(story)
    const gone = story.delete(root)
    const between = story.reply('dan', parent)
    const anew = story.put('cat', parent.collection, { ...parent.record, text: 'again' }, parent.rkey)
    const events = [root, parent, before, gone, between, anew, story.reply('eve', parent)]
    return { events, says: '"invalidReplyRoot":true' }
  },
  'edited to mention whom its gate lets in then': (story) => {
    const root = story.post('ann', 'root')
    const allow = [{ $type: 'app.bsky.feed.threadgate#mentionRule' }]
    const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow }, root.rkey)
    const before = story.reply('bob', root)
    const mention = { $type: 'app.bsky.richtext.facet#mention', did: story.did('bob') }
    const facets = [{ index: { byteStart: 0, byteEnd: 1 }, features: [mention] }]
    const edited = story.put('ann', root.collection, { text: 'root', facets }, root.rkey)
    return { events: [root, gate, before, edited, story.reply('bob', root)], says: '"violatesThreadGate":true' }
  },
}

function answered(story: Story): Record<'root' | 'parent' | 'before', CreateEvent> {
  const root = story.post('ann', 'root')
  const parent = story.reply('cat', root)
  return { root, parent, before: story.reply('bob', parent) }
}

function leavesThread(story: Story): { gone: RecordEvent; events: RecordEvent[] } {
  const { root, parent, before } = answered(story)
  const gone = story.delete(parent)
  const between = story.reply('dan', parent)
  const anew = story.put('cat', parent.collection, { text: 'a post of its own' }, parent.rkey)
  return { gone, events: [root, parent, before, gone, between, anew, story.reply('eve', parent)] }
}

test.for(Object.keys(STORIES))(
  'a post that was %s after it was answered, counts from then on, in many orders of arrival',
  async (what, { database, otherDatabase }) => {
    const { events, says } = STORIES[what]!(new Story())
    await using natural = indexOn(database)
    await apply(natural, events)
    const wanted = await rowsOf(natural)
    expect(wanted.post!.filter((row) => row.includes(says))).not.toHaveLength(0)
    await using index = indexOn(otherDatabase)
    for (let first = 0; first < events.length; first++) {
      const order = [...events.slice(first), ...events.slice(0, first)]
      for (const delivered of [order, order.toReversed()]) {
        await index.db.query(
          `truncate record, post, feed_item, notification, tombstone, past_fact, actor, actor_sync, post_agg, profile_agg, op_thread_reply,
            thread_gate, gated_reply`,
        )
        await apply({ ...index, actors: new KnownActors() }, delivered)
        expect(differences(wanted, await rowsOf(index)), `from ${first}`).toEqual([])
      }
    }
  },
)

test.for(['once', 'twice in a batch', 'in an export and once more'])(
  'a reply to what was deleted before it came hangs on what is written anew (%s), whichever comes first',
  async (times, { database, otherDatabase }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    const neverCame = story.reply('cat', root)
    const reply = story.reply('bob', neverCame)
    const gone = story.delete(neverCame)
    const anew = [{ ...story.reply('cat', root), rkey: neverCame.rkey }]
    if (times === 'in an export and once more') anew[0]!.seq = SEQ_BACKFILL
    if (times !== 'once') anew.push(story.put('cat', root.collection, { text: 'a post of its own' }, neverCame.rkey))
    await using index = indexOn(database)
    await apply(index, [root, reply, gone])
    await applyBatch(index, anew)
    const { rows } = await index.db.query(`select from post where uri = $1 and "invalidReplyRoot" is not true`, [
      uriOf(reply),
    ])
    expect(rows).toHaveLength(1)
    await using late = indexOn(otherDatabase)
    await apply(late, [root, gone, ...anew, reply])
    expect(differences(await rowsOf(index), await rowsOf(late))).toEqual([])
  },
)

test('a reply in the very commit that deletes what it answers is judged without it, whichever comes first', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const gone = story.delete(root)
  const { commit, rev, seq, time } = gone
  const reply = { ...story.reply('ann', root), commit, rev, seq, time }
  await using index = indexOn(database)
  await apply(index, [root, gone, reply])
  await using late = indexOn(otherDatabase)
  await apply(late, [root, reply, gone])
  expect(differences(await rowsOf(index), await rowsOf(late))).toEqual([])
})

test('what another indexer wrote is judged by our rules when what it answers is edited first', async ({ database }) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const reply = story.reply('bob', root)
  await using index = indexOn(database)
  await applyBatch(index, [root, reply])
  await index.db.query('update record set rev = null')
  await index.db.query('update post set "invalidReplyRoot" = true where uri = $1', [uriOf(reply)])
  await applyBatch(index, [story.put('ann', root.collection, { text: 'edited' }, root.rkey)])
  const { rows } = await index.db.query(`select "invalidReplyRoot" as invalid from post where uri = $1`, [uriOf(reply)])
  expect(rows).toEqual([{ invalid: null }])
})
