/**
 * C5: of one account's replies that gates have judged, any number, a follow and a list item look at those since then,
 * and whoever settles them later at some at a time.
 */
import type { Sql, Touched } from '@sluice/collections/depends.ts'
import { affectedByFollowsInParts, affectedByListItemsInParts } from '@sluice/collections/threads/relations.ts'
import { uriOf } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { sqlOf } from './sql.ts'
import { indexOn } from './testing/index-on.ts'
import { looksOf } from './testing/rows-read.ts'
import { Story } from './testing/story.ts'

const story = new Story()
const [ann, bob] = [story.did('ann'), story.did('bob')]
const timeOf = (n: number): string => `3k${String(n).padStart(11, '2')}`

/** So many replies of Bob's, of seven moments, of which every third is to Ann; and some of others'. */
async function gatedReplies({ db }: Index, replies: number): Promise<void> {
  await db.query(
    `insert into gated_reply (uri, creator, owner, at)
    select 'at://' || did || '/app.bsky.feed.post/' || n, did, case when n % 3 = 0 then $2 else 'did:plc:other' end, '3k' || lpad((n % 7)::text, 11, '2')
    from generate_series(1, $3::int) n cross join unnest(array[$1, 'did:plc:before', 'did:plc:zafter']) as did`,
    [bob, ann, replies],
  )
}

async function repliesSince({ db }: Index, since: string, owner?: string): Promise<string[]> {
  const { rows } = await db.query<{ uri: string }>(
    'select uri from gated_reply where creator = $1 and at >= $2 and owner = coalesce($3, owner) order by uri',
    [bob, since, owner],
  )
  return rows.map(({ uri }) => uri)
}

/** All parts, and the most rows that came of one statement. */
async function partsOf(
  { db }: Index,
  ask: (sql: Sql) => AsyncIterable<string[]>,
): Promise<{ uris: string[]; most: number }> {
  let most = 0
  const inner = sqlOf(db)
  const sql: Sql = {
    async query<T extends object>(statement: { name: string; text: string }, values: unknown[]) {
      const rows = await inner.query<T>(statement, values)
      most = Math.max(most, rows.length)
      return rows
    },
  }
  const uris: string[] = []
  for await (const part of ask(sql)) uris.push(...part)
  return { uris: uris.sort(), most }
}

function living(name: string, collection: string, more: object, since: string): Touched<{ subject: string }> {
  const event = story.put(name, collection, { subject: bob, ...more })
  const uri = uriOf(event)
  const entry = { uri, did: event.did, rev: since, live: true, record: event.record, createdAt: event.time }
  return { uri, did: event.did, rev: since, derived: false, entry: entry as never }
}

test.for([0, 3, 6, 7])(
  'all replies since then are found, some at a time, and each of them once (from moment %i on)',
  async (moment, { database }) => {
    await using index = indexOn(database, { size: 1 })
    await gatedReplies(index, 1_000)
    const since = timeOf(moment)
    const item = living('ann', 'app.bsky.graph.listitem', { list: 'list' }, since)
    const follow = living('ann', 'app.bsky.graph.follow', {}, since)
    const followed = { ...living('bob', 'app.bsky.graph.follow', {}, since) }
    followed.entry = { ...followed.entry!, did: bob, record: { subject: ann } }
    for (const atOnce of [1, 40, 5_000]) {
      const ofMember = await partsOf(index, (sql) => affectedByListItemsInParts(sql, [item], atOnce))
      expect(ofMember.uris).toEqual(await repliesSince(index, since))
      expect(ofMember.most).toBeLessThanOrEqual(atOnce)
      for (const touched of [follow, followed]) {
        const between = await partsOf(index, (sql) => affectedByFollowsInParts(sql, [touched], atOnce))
        expect(between.uris).toEqual(await repliesSince(index, since, ann))
        expect(between.most).toBeLessThanOrEqual(atOnce)
      }
    }
  },
)

test('whoever is put on a list has none of their many replies of before looked at', async ({ database }) => {
  await using index = indexOn(database, { size: 1 })
  await gatedReplies(index, 5_000)
  const list = story.put('ann', 'app.bsky.graph.list', { name: 'friends', purpose: 'app.bsky.graph.defs#curatelist' })
  await applyBatch(index, [list])
  const put = story.put('ann', 'app.bsky.graph.listitem', { list: uriOf(list), subject: bob })
  expect(await looksOf(index, () => applyBatch(index, [put]))).toBeLessThan(100)
  expect((await index.db.query('select from settle_later')).rows).toEqual([])
})

test('a part is read by itself, however many are left', async ({ database }) => {
  await using index = indexOn(database, { size: 1 })
  await gatedReplies(index, 5_000)
  const item = living('ann', 'app.bsky.graph.listitem', { list: 'list' }, timeOf(2))
  const looks = await looksOf(index, async () => {
    for await (const part of affectedByListItemsInParts(sqlOf(index.db), [item], 30)) {
      expect(part).toHaveLength(30)
      break
    }
  })
  expect(looks).toBeLessThan(100)
})
