/** C5: a post that is edited, or deleted and written anew, counts for the replies that were written from then on, whatever arrives first; the others are left alone. */
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
import { indexOn } from './testing/index-on.ts'
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
 * How many posts are judged again while `act` runs: each is locked for it, and a lock leaves its transaction's number. Before that, posts may have been judged again because another
 * transaction of the server, of whichever database, was running.
 */
async function judgedAgain({ db }: Index, act: () => Promise<unknown>): Promise<number> {
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
  }
  expect(await judgedAgain(index, changes)).toBe(0)
  // Of those that were written after it, each is judged again.
  const late = story.delete(root)
  await applyBatch(index, [story.reply('bob', root), story.reply('bob', root)])
  expect(await judgedAgain(index, () => applyBatch(index, [late]))).toBe(2)
})

/** A thread of Ann's, a reply in it by Cat, and what is answered to that before and after Cat has written it anew, outside of the thread. */
function leavesThread(story: Story): { gone: RecordEvent; events: RecordEvent[] } {
  const root = story.post('ann', 'root')
  const parent = story.reply('cat', root)
  const before = story.reply('bob', parent)
  const gone = story.delete(parent)
  const between = story.reply('dan', parent)
  const anew = story.put('cat', parent.collection, { text: 'a post of its own' }, parent.rkey)
  return { gone, events: [root, parent, before, gone, between, anew, story.reply('eve', parent)] }
}

test.for(['edited', 'deleted and written anew'])(
  'a post that was %s after it was answered, counts from then on, in many orders of arrival',
  async (what, { database, otherDatabase }) => {
    const { gone, events: all } = leavesThread(new Story())
    const events = what === 'edited' ? all.filter((event) => event !== gone) : all
    await using natural = indexOn(database)
    await apply(natural, events)
    const wanted = await rowsOf(natural)
    expect(wanted.post!.filter((row) => row.includes('"invalidReplyRoot":true'))).not.toHaveLength(0)
    await using index = indexOn(otherDatabase)
    for (let first = 0; first < events.length; first++) {
      const order = [...events.slice(first), ...events.slice(0, first)]
      for (const delivered of [order, order.toReversed()]) {
        await index.db.query(
          'truncate record, post, feed_item, notification, tombstone, past_fact, actor, actor_sync, post_agg, profile_agg, op_thread_reply',
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
