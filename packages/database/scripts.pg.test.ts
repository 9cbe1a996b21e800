/** Tables that collections bring along: scripts handed to the migrator. */
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { FatalError } from '@sluice/runtime/errors.ts'
import { assertMigrated, migrate, pendingMigrations } from './migrate.ts'
import { DatabasePool } from './pool.ts'

const first = {
  name: 'com.example.thing/1',
  sql: 'create table thing (uri varchar primary key); create index on thing (uri)',
}
const second = { name: 'com.example.thing/2', sql: 'alter table thing add column size bigint' }

test('scripts run after our own migrations, once each, in their order', async ({ database }) => {
  expect(await migrate(database, 'bsky', [first])).toEqual({ applied: [first.name] })
  expect(await migrate(database, 'bsky', [first, second])).toEqual({ applied: [second.name] })
  expect(await migrate(database, 'bsky', [first, second])).toEqual({ applied: [] })
  const columns = await queryOnce<{ name: string }>(
    database,
    `select column_name as name from information_schema.columns where table_schema = 'bsky' and table_name = 'thing'`,
  )
  expect(columns.map(({ name }) => name).sort()).toEqual(['size', 'uri'])
})

test('a script that fails leaves nothing behind; those before it stay, and are not run again', async ({ database }) => {
  const half = { name: 'x/1', sql: 'create table half (); create tabel y ()' }
  await expect(migrate(database, 'bsky', [first, half])).rejects.toThrow('tabel')
  const tables = `select tablename as name from pg_tables where tablename in ('thing', 'half')`
  expect(await queryOnce(database, tables)).toEqual([{ name: 'thing' }])
  expect(await migrate(database, 'bsky', [first, second])).toEqual({ applied: [second.name] })
})

test('a script that makes what is there fails with that, and is not tried for ever', async ({ database }) => {
  const again = { name: 'x/1', sql: 'create table post ()' }
  await expect(migrate(database, 'bsky', [again])).rejects.toThrow(/"post" already exists/)
})

test('a script may look into another schema: it is recorded in ours, and the next one begins in ours', async ({
  database,
}) => {
  const elsewhere = { name: 'x/1', sql: 'set local search_path to public; create table theirs ()' }
  const here = { name: 'x/2', sql: 'create table ours ()' }
  expect(await migrate(database, 'bsky', [elsewhere, here])).toEqual({ applied: [elsewhere.name, here.name] })
  const tables = `select schemaname || '.' || tablename as name from pg_tables where tablename in ('theirs', 'ours') order by 1`
  expect(await queryOnce(database, tables)).toEqual([{ name: 'bsky.ours' }, { name: 'public.theirs' }])
  expect(await migrate(database, 'bsky', [elsewhere, here])).toEqual({ applied: [] })
})

test('an indexer that may not migrate names the scripts that are pending', async ({ database }) => {
  await using db = poolOn(database)
  expect(await pendingMigrations(db, [first, second])).toEqual([first.name, second.name])
  await expect(assertMigrated(db, [first])).rejects.toThrow(first.name)
  await migrate(database, 'bsky', [first])
  await assertMigrated(db, [first])
})

test('two scripts of one name stop the start', async ({ database }) => {
  await expect(migrate(database, 'bsky', [first, { ...second, name: first.name }])).rejects.toThrow(FatalError)
  await expect(migrate(database, 'bsky', [{ name: '0001-appview', sql: '' }])).rejects.toThrow('0001-appview')
})

function poolOn(url: string): DatabasePool & AsyncDisposable {
  const db = new DatabasePool({ url, schema: 'bsky', size: 1, role: 'test' })
  return Object.assign(db, { [Symbol.asyncDispose]: () => db.close() })
}
