/**
 * C5: what hangs on one record is settled by its batch only as far as there is room, the rest soon after, once however
 * often it is put off, and from the beginning when somebody died with it.
 */
import { uriOf, type CreateEvent, type RecordEvent } from '@sluice/events/stream-event.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import {
  claimLater,
  giveBack,
  overdueLater,
  putOff,
  settleClaim,
  waitingLater,
  type LaterClaim,
} from './settle-later.ts'
import { indexOn } from './testing/index-on.ts'
import { settleAll } from './testing/settle-all.ts'
import { looksOf } from './testing/rows-read.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

/** So many as are judged at once, and more. */
const MANY = 1_500
const ROOM = { base: 100, each: 2, own: 50 }
const GATE = 'app.bsky.feed.threadgate'

/** Rows that do not tell the way they came. */
async function rowsOf({ db }: Index): Promise<Snapshot> {
  const { actor_sync: _, ...rows } = await snapshot(db, { withoutTimes: true })
  return rows
}

async function waiting({ db }: Index): Promise<{ uri: string; since: string | null; working: string | null }[]> {
  const { rows } = await db.query<{ uri: string; since: string | null; working: string | null }>(
    'select uri, since, working from settle_later order by uri',
  )
  return rows
}

const replies = (story: Story, parent: CreateEvent, by = 'bob'): CreateEvent[] =>
  Array.from({ length: MANY }, () => story.reply(by, parent))

const rules = (...names: string[]): object => ({
  allow: names.map((name) => ({ $type: `app.bsky.feed.threadgate#${name}` })),
})

const mentioning = (story: Story, name: string): object => {
  const features = [{ $type: 'app.bsky.richtext.facet#mention', did: story.did(name) }]
  return { facets: [{ index: { byteStart: 0, byteEnd: 1 }, features }] }
}

interface Told {
  /** All of it, in the natural order. */
  events: RecordEvent[]
  /** What arrives after all others, one after the other. */
  last: RecordEvent[]
  /** What the verdict of many is by that. */
  says: string
}

const LATE: Record<string, (story: Story) => Told> = {
  'the root of a thread'(story) {
    const root = story.post('ann', 'root')
    return { events: [root, ...replies(story, root)], last: [root], says: '"invalidReplyRoot":null' }
  },
  'the end of a root'(story) {
    const root = story.post('ann', 'root')
    const last = story.delete(root)
    return { events: [root, last, ...replies(story, root)], last: [last], says: '"invalidReplyRoot":true' }
  },
  'an edit by which a reply leaves its thread'(story) {
    const root = story.post('ann', 'root')
    const middle = story.reply('cat', root)
    const last = story.put('cat', middle.collection, { text: 'of its own' }, middle.rkey)
    const events = [root, middle, last, ...replies(story, middle)]
    return { events, last: [last], says: '"invalidReplyRoot":true' }
  },
  'an edit that mentions whom the gate lets in, and one that does not'(story) {
    const root = story.post('ann', 'root')
    const gate = story.put('ann', GATE, { post: uriOf(root), ...rules('mentionRule') }, root.rkey)
    const anew = (more: object): CreateEvent =>
      story.put('ann', root.collection, { text: 'edited', ...more }, root.rkey)
    const last = [anew(mentioning(story, 'bob')), anew({}), anew(mentioning(story, 'bob'))]
    const events = [root, gate, ...last, ...replies(story, root)]
    return { events, last, says: '"violatesThreadGate":null' }
  },
  'gates with other rules in alternation'(story) {
    const root = story.post('ann', 'root')
    const gate = (...names: string[]): CreateEvent =>
      story.put('ann', GATE, { post: uriOf(root), ...rules(...names) }, root.rkey)
    const last = [gate('followerRule'), gate('mentionRule'), gate(), story.delete(gate()), gate('followingRule')]
    return { events: [root, ...last, ...replies(story, root)], last, says: '"violatesThreadGate":true' }
  },
  'a gate for quotes'(story) {
    const post = story.post('ann', 'quoted')
    const embeddingRules = [{ $type: 'app.bsky.feed.postgate#disableRule' }]
    const last = story.put('ann', 'app.bsky.feed.postgate', { post: uriOf(post), embeddingRules }, post.rkey)
    const quotes = Array.from({ length: MANY }, () => story.quote('bob', post))
    return { events: [post, last, ...quotes], last: [last], says: '"violatesEmbeddingRules":true' }
  },
  'a follow of one with many replies'(story) {
    const root = story.post('ann', 'root')
    const gate = story.put('ann', GATE, { post: uriOf(root), ...rules('followingRule') }, root.rkey)
    const last = story.follow('ann', 'bob')
    return { events: [root, gate, last, ...replies(story, root)], last: [last], says: '"violatesThreadGate":null' }
  },
  'the end of a follow of one with many replies'(story) {
    const root = story.post('ann', 'root')
    const gate = story.put('ann', GATE, { post: uriOf(root), ...rules('followingRule') }, root.rkey)
    const follow = story.follow('ann', 'bob')
    const last = story.delete(follow)
    const events = [root, gate, follow, last, ...replies(story, root)]
    return { events, last: [last], says: '"violatesThreadGate":true' }
  },
  'that one with many replies is put on a list'(story) {
    const root = story.post('ann', 'root')
    const list = story.put('ann', 'app.bsky.graph.list', { name: 'friends', purpose: 'app.bsky.graph.defs#curatelist' })
    const allow = [{ $type: 'app.bsky.feed.threadgate#listRule', list: uriOf(list) }]
    const gate = story.put('ann', GATE, { post: uriOf(root), allow }, root.rkey)
    const item = story.put('ann', 'app.bsky.graph.listitem', { list: uriOf(list), subject: story.did('bob') })
    const events = [root, list, gate, item, ...replies(story, root)]
    return { events, last: [item], says: '"violatesThreadGate":null' }
  },
}

test.for(Object.entries(LATE))(
  'one batch with %s looks at some thousand rows where thousands hang on it, and in the end they are judged by it',
  async ([, tell], { database, otherDatabase }) => {
    const { events, last, says } = tell(new Story())
    await using natural = indexOn(database)
    await applyBatch(natural, events)
    const wanted = await rowsOf(natural)
    expect(wanted.post!.filter((row) => row.includes(says)).length).toBeGreaterThanOrEqual(MANY)
    await using index = { ...indexOn(otherDatabase, { size: 1 }), room: ROOM }
    await applyBatch(
      { ...index, room: { base: 1e6, each: 0, own: 0 } },
      events.filter((event) => !last.includes(event)),
    )
    const before = await rowsOf(index)
    expect(before.post!.filter((row) => row.includes(says)).length).toBeLessThan(10)
    for (const event of last) expect(await looksOf(index, () => applyBatch(index, [event]))).toBeLessThan(4_000)
    expect((await waiting(index)).length).toBeGreaterThan(0)
    // As many looks as one of these batches would make without a limit.
    expect(await looksOf(index, () => settleAll(index, { atOnce: 200 }))).toBeGreaterThan(10_000)
    expect(differences(wanted, await rowsOf(index))).toEqual([])
    expect(await waiting(index)).toEqual([])
  },
)

test('a batch looks at some thousand rows in a thread of which no post has many replies, and is settled to its end', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const thread = [root]
  for (const parent of thread) {
    if (thread.length > MANY) break
    for (let n = 0; n < 3; n++) thread.push(story.reply('bob', parent))
  }
  await using natural = indexOn(database)
  await applyBatch(natural, thread)
  await using index = { ...indexOn(otherDatabase, { size: 1 }), room: { base: 200, each: 2, own: 50 } }
  await applyBatch(index, thread.slice(1))
  expect(await looksOf(index, () => applyBatch(index, [root]))).toBeLessThan(12_000)
  expect((await waiting(index)).length).toBeGreaterThan(1)
  expect(await settleAll(index)).toBeGreaterThan(1)
  expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
})

test('in a batch of many, what hangs on one of them is looked at no further, and nothing of others is put off', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const many = replies(story, root)
  const others = Array.from({ length: 300 }, (_, n) => story.post(`cat${n}`, 'a post'))
  const answers = others.map((post) => story.reply('dan', post))
  await using index = { ...indexOn(database, { size: 1 }), room: ROOM }
  await applyBatch(index, [...many, ...answers])
  const without = await looksOf(index, () => applyBatch(index, others.slice(150)))
  const looks = await looksOf(index, () => applyBatch(index, [root, ...others.slice(0, 150)]))
  // Without a limit six times as many.
  expect(looks).toBeLessThan(2 * without + 3_000)
  expect(await waiting(index)).toEqual([{ uri: uriOf(root), since: '', working: null }])
  const { rows } = await index.db.query(`select from post where "invalidReplyRoot" and creator = $1`, [answers[0]!.did])
  expect(rows).toEqual([])
})

const [now, soon, later] = ['2026-01-01T00:00:00.000Z', '2026-01-01T00:05:00.000Z', '2026-01-01T00:10:00.000Z']
const claim = async ({ db }: Index, at: string, until: string, queue: 'first' | 'again'): Promise<LaterClaim[]> =>
  claimLater(db, { now: at, until, limit: 1, queue })

/** Put off long ago. */
async function put({ db }: Index, uri: string, since: string): Promise<void> {
  await putOff(db, [{ uri, since }])
  await db.query('update settle_later set "dueAt" = $2 where uri = $1 and claim is null', [uri, now])
}

test('what is put off often waits once, from the first time on; what comes while somebody works on it waits for the end of that', async ({
  database,
}) => {
  const uri = `at://${new Story().did('ann')}/app.bsky.feed.post/3aaaaaaaaaaaa`
  await using index = indexOn(database)
  for (const since of ['3k', '3b', '3z']) await put(index, uri, since)
  const [taken] = await claim(index, now, soon, 'first')
  expect(taken).toEqual({ uri, since: '3b', claim: soon, tries: 1 })
  await put(index, uri, '3x')
  await put(index, uri, '3y')
  expect(await waiting(index)).toEqual([{ uri, since: '3x', working: '3b' }])
  for (const queue of ['first', 'again'] as const) expect(await claim(index, now, later, queue)).toEqual([])
  await settleClaim(index.db, index.collections, taken!)
  expect(await waiting(index)).toEqual([{ uri, since: '3x', working: null }])
  const again = await claim(index, '9999', later, 'again')
  expect(again).toEqual([{ uri, since: '3x', claim: later, tries: 2 }])
  await settleClaim(index.db, index.collections, again[0]!)
  expect(await waiting(index)).toEqual([])
})

test('who dies with a claim leaves all of it, and what was put off meanwhile, to whoever comes when it ends; who is late ends nothing', async ({
  database,
}) => {
  const uri = `at://${new Story().did('ann')}/app.bsky.feed.post/3aaaaaaaaaaaa`
  await using index = indexOn(database)
  await put(index, uri, '3k')
  const [dead] = await claim(index, now, soon, 'first')
  await put(index, uri, '3z')
  expect(await claim(index, now, later, 'again')).toEqual([])
  const [heir] = await claim(index, soon, later, 'again')
  expect(heir).toEqual({ uri, since: '3k', claim: later, tries: 2 })
  await settleClaim(index.db, index.collections, dead!)
  expect(await waiting(index)).toEqual([{ uri, since: null, working: '3k' }])
  await giveBack(index.db, dead!)
  expect(await waiting(index)).toEqual([{ uri, since: null, working: '3k' }])
  await giveBack(index.db, heir!)
  expect(await waiting(index)).toEqual([{ uri, since: '3k', working: null }])
})

test('D3 settling later that fails between two transactions begins anew, and ends as if it had not', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const first = replies(story, root, 'bob')
  const below = first.slice(0, 10).map((reply) => story.reply('cat', reply))
  const deep = below.map((reply) => story.reply('dan', story.reply('ann', reply)))
  await using natural = indexOn(database)
  const events = [...first, ...below, ...deep]
  await applyBatch(natural, [root, ...events])
  await using index = { ...indexOn(otherDatabase), room: ROOM }
  await applyBatch(index, events)
  await applyBatch(index, [root])
  const stuck = uriOf(below[5]!)
  await index.db.query(`
    create function disk_full() returns trigger language plpgsql as $$ begin raise exception 'full' using errcode = '53100'; end $$`)
  await index.db.query(`
    create trigger disk_full before update on post for each row when (new.uri = '${stuck}') execute function disk_full()`)
  const [taken] = await claim(index, '9999', soon, 'first')
  await expect(settleClaim(index.db, index.collections, taken!)).rejects.toBeInstanceOf(TransientError)
  const invalid = async (): Promise<number> =>
    (await index.db.query(`select from post where "invalidReplyRoot"`)).rowCount!
  expect(await invalid()).toBeGreaterThan(0)
  expect(await invalid()).toBeLessThan(events.length)
  await index.db.query('drop trigger disk_full on post')
  expect(await settleAll(index)).toBe(1)
  expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
})

test('a claim reads what it takes, however many wait; how long the first of each queue has been due is told', async ({
  database,
}) => {
  await using index = indexOn(database, { size: 1 })
  expect(await waitingLater(index.db)).toBe(0)
  expect(await overdueLater(index.db, new Date(now))).toEqual({ first: 0, again: 0 })
  await index.db.query(
    `insert into settle_later (uri, since, "dueAt", tries)
    select 'at://did:plc:aaa/app.bsky.feed.post/' || n, '', $1, n % 2 from generate_series(1, 12000) n`,
    [now],
  )
  await index.db.query('analyze settle_later')
  for (const queue of ['first', 'again'] as const) {
    const looks = await looksOf(index, () => claim(index, soon, later, queue))
    expect(looks).toBeLessThan(20)
  }
  expect(await waitingLater(index.db)).toBe(10_000)
  expect(await overdueLater(index.db, new Date(soon))).toEqual({ first: 300, again: 300 })
})

test('what is put off anew does not wait for as long as what claims have left behind', async ({ database }) => {
  await using index = indexOn(database)
  const uri = uriOf(new Story().post('ann', 'one'))
  const late = new Date(Date.now() + 640_000).toISOString()
  await putOff(index.db, [{ uri, since: '' }], { dueAt: late, tries: 7 })
  await putOff(index.db, [{ uri, since: '' }])
  const { rows } = await index.db.query<{ dueAt: string }>('select "dueAt" from settle_later')
  expect(rows).toHaveLength(1)
  expect(rows[0]!.dueAt < late).toBe(true)
})
