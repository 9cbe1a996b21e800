import { Client } from 'pg'
import { expect, test } from '@sluice/sandbox/fixtures.ts'

test('ANALYZE counts what is searched by, and leaves texts and content ids alone', async ({ database }) => {
  const client = new Client(database)
  await client.connect()
  await client.query('set search_path to bsky, public')
  await client.query(
    `insert into record (uri, cid, did, json, "indexedAt", rev) values ('at://did:plc:a/c/r', 'bafy', 'did:plc:a', '{}', '2026', 'r')`,
  )
  await client.query('analyze record')
  const { rows } = await client.query<{ column: string }>(
    `select attname as column from pg_stats where schemaname = 'bsky' and tablename = 'record' order by 1`,
  )
  await client.end()
  const counted = rows.map(({ column }) => column)
  expect(counted).toEqual(expect.arrayContaining(['did', 'indexedAt', 'rev', 'uri']))
  expect(counted).not.toContain('json')
  expect(counted).not.toContain('cid')
})

test('autovacuum leaves counters alone while they are few', async ({ database }) => {
  const client = new Client(database)
  await client.connect()
  const { rows } = await client.query<{ name: string; options: string[] }>(
    `select relname as name, reloptions as options from pg_class
     where relnamespace = 'bsky'::regnamespace and relname in ('post_agg', 'profile_agg', 'actor_sync') order by 1`,
  )
  await client.end()
  expect(rows.map(({ name }) => name)).toEqual(['actor_sync', 'post_agg', 'profile_agg'])
  for (const { options } of rows) {
    expect(options).toContain('autovacuum_analyze_threshold=100000')
    expect(options).toContain('autovacuum_vacuum_threshold=100000')
    expect(options).toContain('fillfactor=90')
  }
})
