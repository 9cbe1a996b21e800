/** What is seen of PostgreSQL when something is missing, held, or put off on purpose. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { beginBulkLoad } from '@sluice/indexing/bulk/begin.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { inspectPostgres } from './postgres-state.ts'
import { runCli } from './testing/run.ts'

test('a missing index is named with the statement that makes it; in a first load none is missing, and counters wait', async ({
  database,
}) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
  expect((await inspectPostgres(db)).missingIndexes).toEqual([])
  await db.query('drop index record_did_idx')
  const [missing] = (await inspectPostgres(db)).missingIndexes
  expect(missing).toEqual({ name: 'record_did_idx', statement: 'create index concurrently record_did_idx on bsky.record (did)', invalid: false }) // prettier-ignore
  await db.query(missing!.statement)
  expect((await inspectPostgres(db)).missingIndexes).toEqual([])

  await beginBulkLoad(db, new CollectionSet(collections))
  expect(await inspectPostgres(db)).toMatchObject({ bulkPhase: 'loading', missingIndexes: [] })
  const env = { DB_POSTGRES_URL: database }
  expect(await runCli(['recount'], env)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('sluice bulk finish') as string,
  })
})

test('every index that is not there is missed, the AppView’s and ours', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
  const { rows } = await db.query<{ name: string }>(
    `select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid
     where c.relnamespace = 'bsky'::regnamespace and not exists (select from pg_constraint where conindid = c.oid)
       and exists (select from pg_class t where t.oid = i.indrelid and t.relkind = 'r') order by 1`,
  )
  const names = rows.map(({ name }) => name)
  await db.query(`drop index ${names.map((name) => `"${name}"`).join(', ')}`)
  const { missingIndexes } = await inspectPostgres(db)
  expect(missingIndexes.map(({ name }) => name).toSorted()).toEqual(names.toSorted())
  for (const { statement } of missingIndexes) await db.query(statement)
  expect((await inspectPostgres(db)).missingIndexes).toEqual([])
})

test('a table that somebody holds does not hold up the look', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
  await db.query('vacuum record')
  const holder = await db.acquire()
  try {
    await holder.query('begin; lock table record in access exclusive mode')
    const { tables } = await inspectPostgres(db)
    expect(tables.find(({ name }) => name === 'record')?.bytes).toBeGreaterThan(0)
  } finally {
    holder.release(true)
  }
})
