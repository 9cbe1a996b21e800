/**
 * Rows are found by an index that begins with what they are looked for by: at any size of the index, and in a first
 * load, which drops most of them.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Sql } from '@sluice/collections/depends.ts'
import { affectedByPosts } from '@sluice/collections/threads/affected.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { uriOf, type CreateEvent, type RepoEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from './apply-batch.ts'
import { beginBulkLoad } from './bulk/begin.ts'
import { recordsBetween } from './ranges.ts'
import { KnownActors } from './own.ts'
import { sqlOf } from './sql.ts'
import { Story } from './testing/story.ts'

const set = new CollectionSet(collections)

function poolOn(url: string): DatabasePool {
  return new DatabasePool({ url, schema: 'bsky', size: 4, role: 'test', byKey: true })
}

/** `table.column` of each index's first column. */
async function firstColumns(db: DatabasePool): Promise<string[]> {
  const { rows } = await db.query<{ first: string }>(`
    select c.relname || '.' || a.attname as first from pg_index x join pg_class c on c.oid = x.indrelid
    join pg_attribute a on a.attrelid = c.oid and a.attnum = x.indkey[0]
    where c.relnamespace = 'bsky'::regnamespace and x.indpred is null`)
  return rows.map(({ first }) => first)
}

test('whatever a batch removes or asks for, an index begins with it, in a first load too', async ({ database }) => {
  await using db = poolOn(database)
  const owned = set.plugins.flatMap(({ tables }) => tables.map(({ name, owner }) => `${name}.${owner}`))
  const asked = ['thread_mute.mutedByDid', 'notification.recordUri', 'duplicate_record.duplicateOf', ...owned]
  expect(owned.length).toBeGreaterThan(20)
  const missing = async (): Promise<string[]> => {
    const first = await firstColumns(db)
    return asked.filter((column) => !first.includes(column))
  }
  expect(await missing()).toEqual([])
  await beginBulkLoad(db, set)
  expect(await missing()).toEqual([])
})

test('C6 of an account with many records a resync reads those in its range, not all of them', async ({ database }) => {
  await using db = poolOn(database)
  const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  await db.query(`
    insert into record (uri, cid, did, json, "indexedAt")
    select 'at://${did}/com.example.note/' || lpad(n::text, 6, '0'), 'bafy', '${did}', '{}', '2026-01-01T00:00:00.000Z'
    from generate_series(1, 5000) as n`)
  await db.query('analyze record')
  const statement = `select uri from record where ${recordsBetween(true)}`
  const range = [did, `at://${did}/com.example.note/000010`, `at://${did}/com.example.note/000020`]
  const { rows } = await db.query<{ 'QUERY PLAN': string }>(`explain (analyze, costs off) ${statement}`, range)
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
  expect(plan).toContain('record_pkey')
  expect(plan).not.toMatch(/Rows Removed by (Filter|Index Recheck): \d{3,}/)

  const repo: RepoEvent = {
    type: 'repo', time: '2026-01-02T00:00:00.000Z', did, commit: 'bafy', rev: '3zzzzzzzzzzzz',
    range: ['com.example.note/000010', 'com.example.note/000020'], keys: ['com.example.note/000015'],
  } // prettier-ignore
  await applyBatch({ db, collections: set, actors: new KnownActors() }, [repo])
  const left = await db.query<{ n: number }>('select count(*)::int as n from record')
  expect(left.rows[0]!.n).toBe(5000 - 9)
})

test('C5 what another transaction may have changed of a reply in a gated thread is found by indexes', async ({
  database,
}) => {
  await using db = poolOn(database)
  const story = new Story()
  const root = story.post('ann', 'gated')
  const list = `at://${story.did('eve')}/app.bsky.graph.list/friends`
  const allow = [
    { $type: 'app.bsky.feed.threadgate#followerRule' },
    { $type: 'app.bsky.feed.threadgate#listRule', list },
  ]
  const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow }, root.rkey)
  const reply = story.reply('bob', root)
  await applyBatch({ db, collections: set, actors: new KnownActors() }, [root, gate, reply])
  const asked = await db.session(async (session) => {
    const statements: { name: string; plan: string }[] = []
    await session.query('set enable_seqscan = off')
    const sql: Sql = {
      async query<T extends object>(statement: { name: string; text: string }, values: unknown[]) {
        const { rows } = await session.query<{ 'QUERY PLAN': string }>(`explain ${statement.text}`, values)
        statements.push({ name: statement.name, plan: rows.map((row) => row['QUERY PLAN']).join('\n') })
        return await sqlOf(session).query<T>(statement, values)
      },
    }
    const touched = [{ uri: uriOf(reply), did: reply.did, rev: reply.rev, derived: true, entry: {} as never }]
    await affectedByPosts(sql, touched, { unseen: { since: null } })
    await session.query('reset enable_seqscan')
    return statements
  })
  expect(asked.map(({ name }) => name)).toContain('affected-overtaken-on-lists')
  expect(asked.filter(({ plan }) => plan.includes('Seq Scan'))).toEqual([])
})

test('C5 the server’s four thousand millionth transaction is a moment like any other', async ({ database }) => {
  await using db = poolOn(database)
  const uri = 'at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3k2aaaaaaaaaa'
  const record = { $type: 'app.bsky.feed.post', text: '', createdAt: '2026-01-01T00:00:00.000Z' }
  const [, , did, collection, rkey] = uri.split('/') as [string, string, string, string, string]
  const event: CreateEvent = {
    type: 'create', seq: 1, time: '2026-01-01T00:00:00.000Z', did, commit: 'bafy', rev: '3k2aaaaaaaaaa', collection, rkey,
    cid: 'bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy', record,
  } // prettier-ignore
  await applyBatch({ db, collections: set, actors: new KnownActors() }, [event])
  const entry = { uri, did } as never
  const touched = [{ uri, did, rev: event.rev, derived: true, entry }]
  const { rows } = await db.query<{ next: string }>(
    `select (pg_snapshot_xmax(pg_current_snapshot())::text::numeric + 4294967296)::text as next`,
  )
  const found = await db.session((session) =>
    affectedByPosts(sqlOf(session), touched, { unseen: { since: rows[0]!.next } }),
  )
  expect(found.uris).toEqual([])
})
