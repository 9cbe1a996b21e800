/** C5, D3: a thread that is too much for one walk is gone on with where that ended, by the next, and ends as if one had gone through all of it; after a crash too. */
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
import { oldestNow } from './unseen.ts'

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
  const oldest = await db.session(oldestNow)
  return await deriveOnward(db, collections, posts.map(uriOf), { found: { oldest }, resumes: true, limits })
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
  // Each is answered before it is written, but for the last.
  const key = (n: number): string => `circle${n % 40}`
  const line = times(40, root).map(({ did, collection, cid }, n) => {
    const parent = { uri: `at://${did}/${collection}/${key(n + 39)}`, cid }
    return story.put('ann', collection, { text: 'a reply', reply: { root: ref(root), parent } }, key(n))
  })
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
    const { rows } = await index.db.query<{ dueAt: string }>('select max("dueAt") as "dueAt" from settle_later')
    await index.db.query('delete from settle_later where "dueAt" <> $1', [rows[0]!.dueAt])
    waits.push(Math.floor((Date.parse(rows[0]!.dueAt) - before) / 100_000))
  }
  expect(waits).toEqual([1, 2, 4])
})
