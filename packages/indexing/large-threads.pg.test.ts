/**
 * C5, D3: a thread that is too much for one walk is gone on with where that ended, by the next, and ends as if one had
 * gone through all of it; after a crash too.
 */
import { uriOf, type CreateEvent } from '@sluice/events/stream-event.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { deriveOnward, type Onward } from './derive-onward.ts'
import { claimLater, putOff, settleClaim } from './settle-later.ts'
import { indexOn } from './testing/index-on.ts'
import { settleAll } from './testing/settle-all.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { ref, Story } from './testing/story.ts'
import { momentNow } from './unseen.ts'

const NO_ROOM = { base: 0, each: 0, own: 0 }

/** Rows that do not tell the way they came. */
async function rowsOf(index: Index): Promise<Snapshot> {
  const { actor_sync: _, ...rows } = await snapshot(index.db, { withoutTimes: true })
  return rows
}

/** Answers to the one before, by these authors. */
function lineBelow(story: Story, parent: CreateEvent, authors: readonly string[]): CreateEvent[] {
  const line = [parent]
  for (const author of authors) line.push(story.reply(author, line.at(-1)!))
  return line.slice(1)
}

const times = <T>(count: number, what: T): T[] => Array.from({ length: count }, () => what)

/** Replies that each answer the one before, and the first the last, by these authors in turn; none of them is valid. */
function circleOf(story: Story, root: CreateEvent, size: number, authors = ['ann']): CreateEvent[] {
  const author = (n: number): string => authors[n % authors.length]!
  return times(size, root).map(({ collection, cid }, n) => {
    const before = (n + size - 1) % size
    const parent = { uri: `at://${story.did(author(before))}/${collection}/circle${before}`, cid }
    return story.put(author(n), collection, { text: 'a reply', reply: { root: ref(root), parent } }, `circle${n}`)
  })
}

async function invalidOf({ db }: Index): Promise<number> {
  return (await db.query('select from post where "invalidReplyRoot"')).rowCount!
}

test('D3 a late root that was settled in part counts down to the last reply, though whoever begins anew comes upon more than one may', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const line = lineBelow(story, root, times(60, 'ann'))
  // What it answers is gone when that is gone on from.
  const gone = line.filter((_, n) => n % 7 === 3)
  await using natural = indexOn(database)
  await applyBatch(natural, [root, ...line])
  await applyBatch(
    natural,
    gone.map((post) => story.delete(post)),
  )
  await using index = indexOn(otherDatabase)
  await applyBatch(index, line)
  await applyBatch({ ...index, room: NO_ROOM }, [root])
  await index.db.query(`
    create function disk_full() returns trigger language plpgsql as $$ begin raise exception 'full' using errcode = '53100'; end $$`)
  await index.db.query(`
    create trigger disk_full before update on post for each row when (new.uri = '${uriOf(line[40]!)}') execute function disk_full()`)
  const limits = { seen: 6 }
  await expect(settleAll(index)).rejects.toBeInstanceOf(TransientError)
  // It got so far, and has gone on from none of the last.
  expect(await invalidOf(index)).toBe(20)
  await index.db.query('drop trigger disk_full on post')
  await applyBatch(
    index,
    gone.map((post) => story.delete(post)),
  )
  expect(await settleAll(index, { limits })).toBeGreaterThan(5)
  expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
})

/** Derives these again as after a claim of what they hang from. */
async function derived({ db, collections }: Index, posts: readonly CreateEvent[], limits: object): Promise<Onward> {
  const found = await db.session(momentNow)
  return await deriveOnward(db, collections, posts.map(uriOf), { found, resumes: true, limits })
}

test('what changes behind others that were come upon before is gone on from to its end, however long that takes', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  // Judged in two parts, what is below in the first: so nothing is new in all rounds but one.
  const others = times(960, 'aaa').map((name) => story.post(name, 'another'))
  const above = lineBelow(story, root, times(20, 'zoe'))
  const below = lineBelow(story, above.at(-1)!, times(40, 'ann'))
  await using natural = indexOn(database)
  for (const batch of [others, [root], above, below]) await applyBatch(natural, batch)
  await using index = indexOn(otherDatabase)
  for (const batch of [others, above, below]) await applyBatch(index, batch)
  await applyBatch({ ...index, room: NO_ROOM }, [root])
  await index.db.query('delete from settle_later')
  const limits = { idleRounds: 3 }
  const { changes, beyond } = await derived(index, [...others, ...above, ...below], limits)
  expect(changes).toBeLessThan(50)
  await putOff(index.db, beyond)
  await settleAll(index, { limits })
  expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
})

test('in a circle of replies that goes round and round one ends, and those who go on come to an end', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const line = circleOf(story, root, 40)
  await using index = indexOn(database)
  await applyBatch(index, [root, ...line.toReversed()])
  const [one, other] = [line.slice(0, 20), line.slice(20)]
  await index.db.query('update post set "invalidReplyRoot" = (uri = any($1::text[])) where "replyRoot" is not null', [
    one.map(uriOf),
  ])
  const { changes, beyond } = await derived(index, [one[0]!, other[0]!], { idleRounds: 50 })
  expect(changes).toBeGreaterThan(300)
  expect(beyond).not.toEqual([])
  await putOff(index.db, beyond)
  await settleAll(index, { limits: { idleRounds: 50 } })
  expect([0, line.length]).toContain(await invalidOf(index))
})

test('of what one walk has come upon and leaves, those posts are put off that hang from no other of these, and all is judged', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const thread = [root]
  for (const parent of thread) {
    if (thread.length > 1_500) break
    for (let n = 0; n < 3; n++) thread.push(story.reply('bob', parent))
  }
  await using natural = indexOn(database)
  await applyBatch(natural, thread)
  await using index = indexOn(otherDatabase)
  await applyBatch({ ...index, room: { base: 1e6, each: 0, own: 0 } }, thread.slice(1))
  await applyBatch({ ...index, room: NO_ROOM }, [root])
  const [claim] = await claimLater(index.db, { now: '9', until: '8', limit: 1, queue: 'first' })
  await settleClaim(index.db, index.collections, claim!, { limits: { seen: 100 } })
  const { rows } = await index.db.query('select from settle_later')
  // Four levels were judged, of which the last has 81 posts; 460 in all have replies that were not. Fewer where
  // somebody writes at this moment: then more is to be judged again.
  expect(rows.length).toBeGreaterThan(0)
  expect(rows.length).toBeLessThanOrEqual(81)
  await settleAll(index)
  expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
})

/** Whatever they say of a gate is not so: that nobody hears of, and nothing hangs on it. */
async function disfigure({ db }: Index): Promise<void> {
  await db.query('update post set "hasThreadGate" = true where "replyRoot" is not null')
}

test.for([2, 3, 8])(
  'of a circle of %i replies that is left whole one is put off, and of all that hangs on it nothing is lost',
  async (size, { database }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    // Judged in two parts, so that each comes upon what is in the other.
    const circle = circleOf(story, root, size, ['aaa', 'zoe'])
    const others = times(1_000, 'bob').map((name) => story.post(name, 'another'))
    const tails = circle.flatMap((post) => lineBelow(story, post, times(6, 'cat')))
    await using index = indexOn(database)
    for (const batch of [others, [root, ...circle, ...tails]]) await applyBatch(index, batch)
    const wanted = await rowsOf(index)
    await disfigure(index)
    const { beyond } = await derived(index, [...others, ...circle], { seen: 1 })
    expect(beyond).toHaveLength(1)
    await putOff(index.db, beyond)
    expect(differences(wanted, await rowsOf(index))).not.toEqual([])
    await settleAll(index)
    expect(differences(wanted, await rowsOf(index))).toEqual([])
  },
)

test('a reply that answers what is no post is judged by the walk that comes upon it, since nobody would find it there', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const middle = story.reply('ann', root)
  const moved = story.reply('bob', middle)
  const parent = { uri: `at://${moved.did}/app.bsky.feed.like/3aaaaaaaaaaaa`, cid: root.cid }
  const stray = story.put('bob', moved.collection, { text: 'a reply', reply: { root: ref(root), parent } }, moved.rkey)
  const below = lineBelow(story, moved, times(6, 'cat'))
  await using index = indexOn(database)
  await applyBatch(index, [root, middle, moved, ...below])
  expect(await applyBatch(index, [stray])).toMatchObject({ replaced: 1 })
  const wanted = await rowsOf(index)
  await disfigure(index)
  const { beyond } = await derived(index, [middle], { seen: 1 })
  await putOff(index.db, beyond)
  await settleAll(index)
  expect(differences(wanted, await rowsOf(index))).toEqual([])
})

/** How many times as long as the first time what is left waits now: what is due last. Nothing else does any more. */
async function waitOf({ db }: Index, againMs: number, before: number): Promise<number> {
  const { rows } = await db.query<{ dueAt: string }>('select max("dueAt") as "dueAt" from settle_later')
  await db.query('delete from settle_later where "dueAt" <> $1', [rows[0]!.dueAt])
  return Math.floor((Date.parse(rows[0]!.dueAt) - before) / againMs)
}

test('a claim that leaves its own record behind waits as long as if it were another, and longer each time', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  // Judged in two parts, so that each comes upon what is in the other.
  const circle = circleOf(story, root, 2, ['aaa', 'zoe'])
  const others = times(1_000, 'bob').map((name) => story.reply(name, circle[0]!))
  await using index = indexOn(database)
  await applyBatch({ ...index, room: { base: 1e6, each: 0, own: 0 } }, [root, ...circle, ...others])
  await putOff(index.db, [{ uri: uriOf(circle[0]!), since: '' }])
  const againMs = 100_000
  const waits: number[] = []
  for (const queue of ['first', 'again', 'again', 'again'] as const) {
    await disfigure(index)
    const [claim] = await claimLater(index.db, { now: '9', until: '8', limit: 1, queue })
    const before = Date.now()
    await settleClaim(index.db, index.collections, claim!, { againMs, limits: { seen: 1 } })
    waits.push(await waitOf(index, againMs, before))
  }
  expect(waits).toEqual([1, 2, 4, 8])
})

test('two claims each of which leaves the record of the other behind wait longer each time, and what others put off meanwhile does not', async ({
  database,
}) => {
  const story = new Story()
  await using index = indexOn(database)
  const uris = [story.post('ann', 'one'), story.post('bob', 'other')].map(uriOf)
  await putOff(
    index.db,
    uris.map((uri) => ({ uri, since: '' })),
  )
  const againMs = 100_000
  const waits: number[] = []
  for (const [queue, isLeft] of [
    ['first', true],
    ['again', true],
    ['again', true],
    ['again', false],
  ] as const) {
    const claims = await claimLater(index.db, { now: '9', until: '8', limit: 2, queue })
    expect(claims.map(({ uri }) => uri).sort()).toEqual(uris)
    const before = Date.now()
    const dueAt = new Date(before).toISOString()
    for (const { uri, tries } of claims)
      await putOff(index.db, [{ uri: uris.find((other) => other !== uri)!, since: '' }], isLeft ? { dueAt, tries } : {})
    for (const claim of claims) await settleClaim(index.db, index.collections, claim, { againMs })
    const { rows } = await index.db.query<{ dueAt: string }>('select "dueAt" from settle_later')
    for (const row of rows) waits.push(Math.floor((Date.parse(row.dueAt) - before) / againMs))
  }
  expect(waits).toEqual([1, 1, 2, 2, 4, 4, 1, 1])
})

test('what one claim leaves to others is due later each time, since a circle of more posts has no end', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const line = lineBelow(story, root, times(30, 'ann'))
  await using index = indexOn(database)
  await applyBatch(index, line)
  await applyBatch({ ...index, room: NO_ROOM }, [root])
  const waits: number[] = []
  for (const queue of ['first', 'again', 'again'] as const) {
    const [claim] = await claimLater(index.db, { now: '9', until: '8', limit: 1, queue })
    const before = Date.now()
    await settleClaim(index.db, index.collections, claim!, { againMs: 100_000, limits: { seen: 4 } })
    waits.push(await waitOf(index, 100_000, before))
  }
  expect(waits).toEqual([1, 2, 4])
})
