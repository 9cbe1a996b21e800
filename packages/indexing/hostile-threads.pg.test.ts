/**
 * What one account leaves behind, on purpose, does not stop the others: edits, rounds of deletion and creation, endings
 * of one follow. A statement has five seconds here; one that takes longer fails the batch, which would be given again
 * for ever.
 */
import type { Sql, Touched } from '@sluice/collections/depends.ts'
import { affectedByPosts } from '@sluice/collections/threads/affected.ts'
import { affectedByFollows, affectedByListItems } from '@sluice/collections/threads/relations.ts'
import { uriOf, type CreateEvent, type RecordEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { sqlOf } from './sql.ts'
import { indexOn as openIndex } from './testing/index-on.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

const POST = 'app.bsky.feed.post'
const ANN = 'did:plc:ann222222222222222222222'
const MALLORY = 'did:plc:mallory22222222222222222'
const EVER = { since: null }

const indexOn = (url: string): Index & AsyncDisposable => openIndex(url, { statementMs: 5_000 })

const edited = (story: Story, post: CreateEvent, text: string): CreateEvent =>
  story.put('mallory', POST, { ...post.record, text }, post.rkey)

const ended = (uri: string, rev = '3222222222222'): Touched<{ subject: string }> => ({
  uri,
  did: MALLORY,
  rev,
  derived: false,
})

const written = (post: CreateEvent): Touched<never> => {
  return { uri: uriOf(post), did: post.did, rev: post.rev, derived: true, entry: {} as never }
}

/** So many past facts, one after the other. In `key`, `since` and `until`, `n` is the number. */
async function remember(
  { db }: Index,
  { uri, key, facts, fact = 'true' }: { uri: string; key: string; facts: number; fact?: string },
): Promise<void> {
  await db.query(
    `insert into past_fact (uri, did, key, since, until, fact)
    select $1::text, split_part($1, '/', 3), ${key}, '3222' || lpad(n::text, 9, '0'), '3223' || lpad(n::text, 9, '0'), $2::jsonb
    from generate_series(1, $3::int) n`,
    [uri, fact, facts],
  )
}

/** So many replies of Mallory's in a gated thread of Ann's. */
async function gatedReplies({ db }: Index, replies: number): Promise<string[]> {
  const { rows } = await db.query<{ uri: string }>(
    `insert into gated_reply (uri, creator, owner, at)
    select 'at://${MALLORY}/${POST}/' || n, '${MALLORY}', '${ANN}', '3zzzzzzzzzzzz' from generate_series(1, $1::int) n returning uri`,
    [replies],
  )
  return rows.map(({ uri }) => uri).sort()
}

test('C5 the root of a thread is edited and deleted, where each of four replies in a line was edited 60 times', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('mallory', 'root')
  const line = [root]
  for (let level = 0; level < 4; level++) line.push(story.reply('mallory', line.at(-1)!))
  await using index = indexOn(database)
  await applyBatch(index, line)
  for (const post of line.slice(1).reverse()) {
    const edits = Array.from({ length: 60 }, (_, n) => edited(story, post, `edit ${n}`))
    await applyBatch(index, edits)
  }
  const facts = `select count(*)::int as n from past_fact where fact ->> 'parent' is not null`
  expect((await index.db.query<{ n: number }>(facts)).rows).toEqual([{ n: 240 }])
  await applyBatch(index, [edited(story, root, 'edited')])
  await applyBatch(index, [story.delete(root)])
  const { rows } = await index.db.query(`select uri from post where "invalidReplyRoot" is not true`)
  expect(rows).toHaveLength(4)
})

test('C5 many answer at once below a post that was edited 100 times, with 10,000 mentions each time, while others write', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('mallory', 'root')
  const replies = Array.from({ length: 300 }, () => story.reply('bob', root))
  await using index = indexOn(database)
  await applyBatch(index, [root, ...replies])
  const mentions = Array.from({ length: 10_000 }, (_, i) => `did:plc:${String(i).padStart(24, 'a')}`)
  const fact = JSON.stringify({ root: null, parent: null, mentions })
  await remember(index, { uri: uriOf(root), key: '$1', facts: 100, fact })
  const touched = replies.map(written)
  const found = await index.db.session((session) => affectedByPosts(sqlOf(session), touched, { unseen: EVER }))
  expect(found.uris.sort()).toEqual(replies.map(uriOf).sort())
  const now = await index.db.query<{ next: string }>('select pg_snapshot_xmax(pg_current_snapshot())::text as next')
  const since = now.rows[0]!.next
  expect(await index.db.session((session) => affectedByPosts(sqlOf(session), touched, { unseen: { since } }))).toEqual({
    uris: [],
    beyond: [],
  })
})

test('C5 300 answer at once below a post that was edited 3,000 times to answer different ones, while others write', async ({
  database,
}) => {
  const story = new Story()
  const moved = story.reply('mallory', story.post('mallory', 'root'))
  const replies = Array.from({ length: 300 }, () => story.reply('bob', moved))
  await using index = indexOn(database)
  await applyBatch(index, [moved, ...replies])
  await index.db.query(
    `insert into past_fact (uri, did, key, since, until, fact)
    select $1::text, $2::text, $1, '3222' || lpad(n::text, 9, '0'), '3223' || lpad(n::text, 9, '0'),
      jsonb_build_object('root', null, 'parent', $1 || n, 'mentions', '[]'::jsonb) from generate_series(1, 3000) n`,
    [uriOf(moved), moved.did],
  )
  const now = await index.db.query<{ next: string }>('select pg_snapshot_xmax(pg_current_snapshot())::text as next')
  const plans: string[] = []
  const found = await index.db.session(async (session) => {
    const sql: Sql = {
      async query<T extends object>(statement: { name: string; text: string }, values: unknown[]) {
        if (statement.name === 'affected-overtaken') {
          const explain = `explain (analyze, costs off, timing off) ${statement.text}`
          const { rows } = await session.query<{ 'QUERY PLAN': string }>(explain, values)
          plans.push(...rows.map((row) => row['QUERY PLAN']))
        }
        return await sqlOf(session).query<T>(statement, values)
      },
    }
    return await affectedByPosts(sql, replies.map(written), { unseen: { since: now.rows[0]!.next } })
  })
  // What is above them is more than is looked at.
  expect(found.uris.sort()).toEqual(replies.map(uriOf).sort())
  const numbers = plans.flatMap((line) => [...line.matchAll(/ rows=([\d.]+) loops=(\d+)/g)])
  const rows = numbers.map(([, each, loops]) => Number(each) * Number(loops))
  expect(rows.length).toBeGreaterThan(20)
  expect(Math.max(...rows)).toBeLessThan(100 * replies.length)
})

test('C5 a deleted post that was edited 20,000 times is liked by 1,000, and its author has muted its thread', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const reply = story.reply('mallory', root)
  await using index = indexOn(database)
  await applyBatch(index, [root, reply])
  await index.db.query(`insert into thread_mute ("rootUri", "mutedByDid", "createdAt") values ($1, $2, '')`, [
    uriOf(root),
    MALLORY,
  ])
  await applyBatch(index, [story.delete(reply)])
  const fact = JSON.stringify({ root: uriOf(root), parent: uriOf(root) })
  await remember(index, { uri: uriOf(reply), key: '$1', facts: 20_000, fact })
  const likes = Array.from({ length: 1_000 }, (_, n) => story.like(`fan${n}`, reply))
  expect(await applyBatch(index, likes)).toMatchObject({ inserted: 1_000 })
  expect((await index.db.query(`select from notification where did = $1`, [MALLORY])).rows).toEqual([])
})

test('C5 a follow that was ended 20,000 times ends once more, between two who have 2,000 gated replies', async ({
  database,
}) => {
  await using index = indexOn(database)
  const replies = await gatedReplies(index, 2_000)
  const follow = `at://${MALLORY}/app.bsky.graph.follow/again`
  await remember(index, { uri: follow, key: `'follow ${MALLORY} ${ANN}'`, facts: 20_000 })
  const affected = async (rev?: string): Promise<string[]> =>
    (
      await index.db.session((session) =>
        affectedByFollows(sqlOf(session), [ended(follow, rev)], { unseen: 'nothing' }),
      )
    ).uris
  expect((await affected()).sort()).toEqual(replies)
  // Whom it named in times that had ended before this nobody asks for.
  expect(await affected('3aaaaaaaaaaaa')).toEqual([])
})

test('C5 a list item that was ended 20,000 times ends once more, of a member who has 2,000 gated replies', async ({
  database,
}) => {
  await using index = indexOn(database)
  const replies = await gatedReplies(index, 2_000)
  const [root, list] = [`at://${ANN}/${POST}/root`, `at://${ANN}/app.bsky.graph.list/friends`]
  const allow = [{ $type: 'app.bsky.feed.threadgate#listRule', list }]
  await applyBatch(index, [new Story().put('ann', 'app.bsky.feed.threadgate', { post: root, allow }, 'root')])
  await index.db.query(
    `insert into post (uri, cid, creator, text, "replyRoot", "createdAt", "indexedAt") select uri, 'bafy', creator, '', $1, '', '' from gated_reply`,
    [root],
  )
  const moment = async (): Promise<string> => {
    const text = 'select pg_snapshot_xmax(pg_current_snapshot())::text as next'
    return (await index.db.query<{ next: string }>(text)).rows[0]!.next
  }
  const before = await moment()
  const item = `at://${ANN}/app.bsky.graph.listitem/again`
  await remember(index, { uri: item, key: `'listitem ${list} ${MALLORY}'`, facts: 20_000 })
  const found = await index.db.session((session) =>
    affectedByListItems(sqlOf(session), [ended(item)], { unseen: 'nothing' }),
  )
  expect(found.uris.sort()).toEqual(replies)
  const touched = replies.map((uri) => ({ uri, did: MALLORY, rev: '', derived: true, entry: {} as never }))
  const overtaken = async (since: string): Promise<string[]> =>
    (await index.db.session((session) => affectedByPosts(sqlOf(session), touched, { unseen: { since } }))).uris
  expect((await overtaken(before)).sort()).toEqual(replies)
  expect(await overtaken(await moment())).toEqual([])
})

/** What Mallory did 8,000 times in one batch, each time under another key; each was remembered as ended, too. */
async function manyTimes({ db }: Index, collection: string, key: string): Promise<Touched<{ subject: string }>[]> {
  const { rows } = await db.query<{ uri: string; rev: string }>(
    `insert into past_fact (uri, did, key, since, until, fact)
    select 'at://${MALLORY}/${collection}/' || n, '${MALLORY}', $1, '3222' || lpad(n::text, 9, '0'), '3223' || lpad(n::text, 9, '0'), 'true'
    from generate_series(1, 8000) n returning uri, until as rev`,
    [key],
  )
  return rows.map(({ uri, rev }) => ({ uri, did: MALLORY, rev, derived: false }))
}

test('C5 8,000 follows of one pair, made or ended in one batch, are asked for their 10,000 gated replies once', async ({
  database,
}) => {
  await using index = indexOn(database)
  const replies = await gatedReplies(index, 10_000)
  const ends = await manyTimes(index, 'app.bsky.graph.follow', `follow ${MALLORY} ${ANN}`)
  const made = ends.map((end) => ({ ...end, entry: { ...end, live: true, record: { subject: ANN } } as never }))
  for (const touched of [made, ends]) {
    const found = await index.db.session((session) => affectedByFollows(sqlOf(session), touched, { unseen: 'nothing' }))
    expect(found.uris.sort()).toEqual(replies)
  }
})

test('C5 8,000 list items of one member, made or ended in one batch, are asked for their 10,000 gated replies once', async ({
  database,
}) => {
  await using index = indexOn(database)
  const replies = await gatedReplies(index, 10_000)
  const ends = await manyTimes(index, 'app.bsky.graph.listitem', `listitem list ${MALLORY}`)
  const made = ends.map((end) => ({ ...end, entry: { ...end, live: true, record: { subject: MALLORY } } as never }))
  for (const touched of [made, ends]) {
    const found = await index.db.session((session) =>
      affectedByListItems(sqlOf(session), touched, { unseen: 'nothing' }),
    )
    expect(found.uris.sort()).toEqual(replies)
  }
})

test('C3 a path that was emptied and written anew 10,000 times is written anew once more', async ({ database }) => {
  const story = new Story()
  const first = story.post('mallory', 'again')
  await using index = indexOn(database)
  await applyBatch(index, [first])
  const rounds = 10_000
  await index.db.query(
    `insert into past_fact (uri, did, key, since, until, fact)
    select $1::text, $2::text, case when n % 2 = 0 then 'gap' else $1::text end, '3aaa' || lpad(n::text, 9, '0'), '3aaa' || lpad((n + n % 2)::text, 9, '0'),
      '{"root": null, "parent": null, "mentions": []}' from generate_series(1, $3::int) n`,
    [uriOf(first), first.did, 2 * rounds],
  )
  const gone = story.delete(first)
  await applyBatch(index, [gone])
  await applyBatch(index, [story.put('mallory', POST, { text: 'once more' }, first.rkey)])
  const { rows } = await index.db.query<{ key: string; since: string; until: string }>(
    `select key, since, until from past_fact order by since desc limit 2`,
  )
  expect(rows).toEqual([
    { key: 'gap', since: gone.rev, until: gone.rev },
    { key: uriOf(first), since: first.rev, until: gone.rev },
  ])
})

/**
 * Which version was in force at each of these times, of those that have ended. Their spans may overlap, by how they
 * came: the last begun counts.
 */
async function inForce({ db }: Index, uri: string, times: readonly string[]): Promise<object[]> {
  const { rows } = await db.query<object>(
    `select at, (
      select max(since) from past_fact where uri = $1 and key <> 'gap' and since <= at and until > at
    ) as since from unnest($2::text[]) as at order by at`,
    [uri, times],
  )
  return rows
}

test.for([1, 2, 3, 4])(
  'C3 what a path held ends at its deletions, whatever arrives first (seed %i)',
  async (seed, { database, otherDatabase }) => {
    const story = new Story()
    const random = new Random(seed)
    const first = story.post('mallory', 'again')
    const events: RecordEvent[] = [first]
    while (events.length < 40) {
      const lives = events.at(-1)!.type !== 'delete'
      events.push(lives && random.chance(0.5) ? story.delete(first) : edited(story, first, `version ${events.length}`))
    }
    await using natural = indexOn(database)
    for (const event of events) await applyBatch(natural, [event])
    const times = events.map(({ rev }) => rev)
    const wanted = await inForce(natural, uriOf(first), times)
    await using index = indexOn(otherDatabase)
    const delivered = random.shuffled([...events, ...events.filter(() => random.chance(0.3))])
    while (delivered.length > 0) await applyBatch(index, delivered.splice(0, 1 + random.below(6)))
    expect(await inForce(index, uriOf(first), times)).toEqual(wanted)
    const gaps = await index.db.query(`select from past_fact where key = 'gap'`)
    expect(gaps.rows.length).toBeGreaterThan(5)
    expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])
  },
)
