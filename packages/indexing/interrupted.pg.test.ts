/** D3: settling that fails halfway, with a part of it committed, is made up for when the batch comes again. */
import { pathOf, uriOf, type CreateEvent, type RecordEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { ROOM } from './settle.ts'
import { indexOn } from './testing/index-on.ts'
import { settleAll } from './testing/settle-all.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'
import { whileHeld } from './testing/while-held.ts'

async function apply(index: Index, events: readonly StreamEvent[]): Promise<void> {
  for (const event of events) await applyBatch(index, [event])
}

/** One below the other, so deep that settling goes down in several rounds. */
function repliesBelow(story: Story, parent: CreateEvent): CreateEvent[] {
  const line = [parent]
  for (let depth = 1; depth <= 12; depth++) line.push(story.reply(`bob${depth}`, line.at(-1)!))
  return line.slice(1)
}

/** The disk is full for this post alone. */
async function whileDiskIsFull({ db }: Index, post: CreateEvent, work: () => Promise<void>): Promise<void> {
  await db.query(`
    create function disk_full() returns trigger language plpgsql as $$ begin raise exception 'full' using errcode = '53100'; end $$`)
  await db.query(`
    create trigger disk_full before update on post for each row when (new.uri = '${uriOf(post)}') execute function disk_full()`)
  await work()
  await db.query('drop trigger disk_full on post')
}

interface Told {
  replies: CreateEvent[]
  /** All of it, in the natural order. */
  events: RecordEvent[]
  /** What arrives after all others. */
  last: RecordEvent
}

const LATE: Record<string, (story: Story) => Told> = {
  'a root'(story) {
    const root = story.post('ann', 'root')
    const replies = repliesBelow(story, root)
    return { replies, events: [root, ...replies], last: root }
  },
  'the deletion of a root, before it was answered'(story) {
    const root = story.post('ann', 'root')
    const last = story.delete(root)
    const replies = repliesBelow(story, root)
    return { replies, events: [root, last, ...replies], last }
  },
  'an earlier version of a post, by which it was in the thread'(story) {
    const root = story.post('ann', 'root')
    const last = story.reply('cat', root)
    const replies = repliesBelow(story, last)
    const edited = story.put('cat', last.collection, { text: 'a post of its own' }, last.rkey)
    return { replies, events: [root, last, ...replies, edited], last }
  },
}

test.for(Object.entries(LATE))(
  '%s that arrives late counts down to the last reply, though settling failed halfway',
  async ([, tell], { database, otherDatabase }) => {
    const { replies, events, last } = tell(new Story())
    await using natural = indexOn(database)
    await apply(natural, events)
    await using index = indexOn(otherDatabase)
    const others = events.filter((event) => event !== last)
    await apply(index, others.toReversed())
    await whileDiskIsFull(index, replies[4]!, async () => {
      await expect(applyBatch(index, [last])).rejects.toBeInstanceOf(TransientError)
    })
    await applyBatch(index, [last])
    expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])
  },
)

test('what answers a post that an export does not have is judged again, though something newer came before that and settling failed', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const post = story.reply('cat', root)
  const { time, did, commit, rev } = story.post('cat', 'the head of the export')
  const range: [string, string] = [pathOf(post), `${pathOf(post)}~`]
  const reply = story.reply('bob', post)
  const anew = story.put('cat', post.collection, { text: 'a post of its own' }, post.rkey)
  await using index = indexOn(database)
  await apply(index, [root, post, reply, anew])
  const exported: StreamEvent = { type: 'repo', time, did, commit, rev, range, keys: [] }
  await whileDiskIsFull(index, reply, async () => {
    await expect(applyBatch(index, [exported])).rejects.toBeInstanceOf(TransientError)
  })
  await applyBatch(index, [exported])
  const { rows } = await index.db.query('select "invalidReplyRoot" from post where uri = $1', [uriOf(reply)])
  expect(rows).toEqual([{ invalidReplyRoot: true }])
})

test('a root that arrives late counts down to the last reply, though settling failed halfway and the root was edited before it came again', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const replies = repliesBelow(story, root)
  const edited = story.put('ann', root.collection, { text: 'edited' }, root.rkey)
  await using natural = indexOn(database)
  await apply(natural, [root, ...replies, edited])
  await using index = indexOn(otherDatabase)
  await apply(index, replies.toReversed())
  await whileDiskIsFull(index, replies[4]!, async () => {
    await expect(applyBatch(index, [root])).rejects.toBeInstanceOf(TransientError)
  })
  await apply(index, [edited, root])
  expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])
})

async function validOf({ db }: Index, posts: readonly CreateEvent[]): Promise<number> {
  const valid = `select from post where uri = any($1::text[]) and "invalidReplyRoot" is not true`
  return (await db.query(valid, [posts.slice(1).map(uriOf)])).rows.length
}

/** Writers of this post fail from now on, until the answer is called. */
async function diskFullFor({ db }: Index, post: CreateEvent): Promise<() => Promise<unknown>> {
  await db.query('create table trouble (uri text)')
  await db.query('insert into trouble values ($1)', [uriOf(post)])
  await db.query(`
    create function disk_full() returns trigger language plpgsql as $$ begin
      if exists (select from trouble where uri = new.uri) then raise exception 'full' using errcode = '53100'; end if;
      return new;
    end $$`)
  await db.query('create trigger disk_full before update on post for each row execute function disk_full()')
  return () => db.query('delete from trouble')
}

test.for(['by its batch', 'later'])(
  'what a follow has judged again, settled %s, at the very moment when a late root came that far, counts down to the last reply, though that failed halfway',
  async (when, { database, otherDatabase }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    const allow = [{ $type: 'app.bsky.feed.threadgate#followingRule' }]
    const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow }, root.rkey)
    const follow = story.follow('ann', 'bob')
    const line = [root]
    for (const by of 'aaaaaaaabbbbaaaa') line.push(story.reply(by === 'a' ? 'ann' : 'bob', line.at(-1)!))
    // Not looked for before the line is judged down to the eighth; locked before all of bob's.
    const held = story.reply('aaa', line[8]!)
    const replies = [...line.slice(1), held]
    await using natural = indexOn(database)
    await apply(natural, [root, gate, follow, ...replies])
    await using index = { ...indexOn(otherDatabase), ...(when === 'later' && { room: { base: 0, each: 0, own: 0 } }) }
    await apply({ ...index, room: ROOM }, [gate, ...replies])
    const mended = await diskFullFor(index, line[13]!)
    const followed = async (): Promise<unknown> => {
      await applyBatch(index, [follow])
      return when === 'later' && (await settleAll(index))
    }
    await whileHeld(index, ['select from post where uri = $1 for update', uriOf(held)], async (waiting) => {
      const settled = applyBatch({ ...index, room: ROOM }, [root])
      await waiting(1)
      await expect(followed()).rejects.toBeInstanceOf(TransientError)
      expect(await validOf(index, line)).toBe(12)
      await mended()
      return [settled]
    })
    await followed()
    expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])
  },
)
