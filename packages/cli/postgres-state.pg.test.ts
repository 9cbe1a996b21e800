/** What is seen of PostgreSQL when something is missing, held, or put off on purpose. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection } from '@sluice/collections/define.ts'
import forumPost from '@sluice/collections/space.atbb/post.ts'
import { migrate } from '@sluice/database/migrate.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { beginBulkLoad } from '@sluice/indexing/bulk/begin.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import type { Finding } from './doctor/finding.ts'
import { inspectPostgres } from './postgres-state.ts'
import { runCli } from './testing/run.ts'
import { statementsOf } from './testing/shell.ts'

/** What doctor says of PostgreSQL. That there is no Redis hides nothing of it. */
async function findingsOf(url: string): Promise<Finding[]> {
  const { stdout } = await runCli(['doctor', '--json'], { DB_POSTGRES_URL: url, REDIS_URL: 'redis://127.0.0.1:1', METRICS_PORT: '0' }) // prettier-ignore
  return (JSON.parse(stdout) as { findings: Finding[] }).findings.filter(({ id }) => id !== 'redis-away')
}

test('a missing index is named with the statement that makes it; in a first load none is missing, and counters wait', async ({
  database,
}) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
  expect((await inspectPostgres(db)).missingIndexes).toEqual([])
  await db.query('drop index profile_creator_idx')
  const [missing] = (await inspectPostgres(db)).missingIndexes
  expect(missing).toEqual({ name: 'profile_creator_idx', statement: 'create index concurrently profile_creator_idx on bsky.profile (creator)', invalid: false, builtBy: undefined }) // prettier-ignore
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

test('shared memory is told as the server has it', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
  const { bytes, hugePages, inHugePages } = (await inspectPostgres(db)).sharedMemory
  const { rows } = await db.query<{ buffers: number; status: string | null; tellsSize: boolean }>(
    `select pg_size_bytes(current_setting('shared_buffers'))::float8 as buffers, current_setting('huge_pages_status', true) as status,
            current_setting('server_version_num')::int >= 150000 as "tellsSize"`,
  )
  const { buffers, status, tellsSize } = rows[0]!
  if (tellsSize) {
    expect(bytes).toBeGreaterThan(buffers)
    expect(hugePages * 2 * 1024 ** 2).toBeGreaterThanOrEqual(bytes)
  } else {
    expect({ bytes, hugePages }).toEqual({ bytes: 0, hugePages: -1 })
  }
  expect(inHugePages).toBe(status === null ? undefined : status === 'on')
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
  const mends = (await findingsOf(database)).filter(({ id }) => id === 'index-missing').map(({ mend }) => mend)
  expect(mends).toHaveLength(names.length)
  for (const statement of mends.flatMap(statementsOf)) await db.query(statement)
  expect((await inspectPostgres(db)).missingIndexes).toEqual([])
})

test('an index that is being built is waited for: nobody is told to drop it, or to end who builds it', async ({
  database,
}) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test', statementMs: 0 })
  const name = 'like_creator_cursor_idx'
  await db.query(`drop index ${name}`)
  const { statement } = (await inspectPostgres(db)).missingIndexes[0]!
  const old = await db.acquire()
  try {
    await old.query('begin isolation level repeatable read; select count(*) from "like"')
    const built = db.query(statement)
    const waits = `select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like 'create index%'`
    await expect.poll(() => queryOnce<{ pid: number }>(database, waits)).toHaveLength(1)
    const [{ pid } = { pid: 0 }] = await queryOnce<{ pid: number }>(database, waits)

    const seen = await inspectPostgres(db, { longSeconds: 0, blockedSeconds: 0 })
    expect(seen.missingIndexes).toMatchObject([{ name, invalid: true, builtBy: pid }])
    expect(seen.blocked).toEqual([])
    expect(seen.longTransactions.map(({ state }) => state)).toEqual(['idle in transaction'])
    const [finding, ...others] = await findingsOf(database)
    expect(finding).toMatchObject({
      id: 'index-missing',
      severity: 'warning',
      what: `the index ${name} is being built`,
    })
    expect(finding!.mend).toMatch(/^wait/)
    expect(others).toEqual([])

    // A build that was ended leaves an index that is not valid, and that nobody builds.
    const ended = expect(built).rejects.toThrow('canceling statement')
    expect(await queryOnce(database, `select pg_cancel_backend(${pid}) as done`)).toEqual([{ done: true }])
    await ended
  } finally {
    old.release(true)
  }
  const [left] = await findingsOf(database)
  const statements = statementsOf(left!.mend)
  expect(statements).toEqual([`drop index concurrently bsky.${name}`, statement])
  for (const one of statements) await db.query(one)
  expect(await findingsOf(database)).toEqual([])
})

test('what a collection brings for tables of its own is pending until it is applied', async ({ database }) => {
  const listed = collections as Collection[]
  listed.push(forumPost as Collection)
  try {
    const pending = { id: 'migrations-pending', evidence: expect.stringContaining('space.atbb.post/1') as string }
    expect(await findingsOf(database)).toMatchObject([pending])
    expect((await runCli(['migrate'], { DB_POSTGRES_URL: database })).code).toBe(0)
    expect(await findingsOf(database)).toEqual([])
  } finally {
    listed.pop()
  }
})

test('a migration that waits for its turn behind another is nothing to end', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
  const first = await db.acquire()
  try {
    // What a migration holds while it works; the second one asks for it.
    await first.query('select pg_advisory_lock(3853314791062309107)')
    const second = migrate(database, 'bsky')
    const waiting = `select application_name as name from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`
    await expect.poll(() => queryOnce(database, waiting)).toEqual([{ name: 'sluice-migrate' }])
    expect((await inspectPostgres(db, { blockedSeconds: 0 })).blocked).toEqual([])
    await first.query('select pg_advisory_unlock(3853314791062309107)')
    expect(await second).toEqual({ applied: [] })
  } finally {
    first.release(true)
  }
})

test('a vacuum takes its time: it is no old transaction, and whoever waits for it is told so', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test', statementMs: 0 })
  await db.query('create table large with (autovacuum_enabled = false) as select repeat($$x$$, 1000) from generate_series(1, 5000)') // prettier-ignore
  const [vacuum, waiting] = [await db.acquire(), await db.acquire()]
  try {
    // 100 ms a page, and there are 700.
    await vacuum.query('set vacuum_cost_delay = 100; set vacuum_cost_limit = 1')
    const vacuumed = expect(vacuum.query('vacuum large')).rejects.toThrow('canceling statement')
    const running = 'select pid from pg_stat_progress_vacuum where datname = current_database()'
    await expect.poll(() => queryOnce(database, running)).toHaveLength(1)
    const [{ pid } = { pid: 0 }] = await queryOnce<{ pid: number }>(database, running)
    const lock = 'begin; lock table large in share mode'
    const locked = waiting.query(lock)
    const look = async () => inspectPostgres(db, { longSeconds: 0, blockedSeconds: 0 })
    await expect.poll(async () => (await look()).blocked).toHaveLength(1)
    const { blocked, longTransactions } = await look()
    expect(blocked).toMatchObject([{ by: [{ pid, application: 'sluice-test', isUpkeep: true }] }])
    expect(longTransactions.map(({ query }) => query)).toEqual([lock])
    expect(await queryOnce(database, `select pg_cancel_backend(${pid}) as done`)).toEqual([{ done: true }])
    await Promise.all([vacuumed, locked])
  } finally {
    vacuum.release(true)
    waiting.release(true)
  }
})

/**
 * What the table and its indexes take without what is beside them (free space, visibility): what the last vacuum has
 * counted.
 */
const MAIN_BYTES = `
  select pg_relation_size('bsky.record')::int + sum(pg_relation_size(indexrelid))::int as bytes from pg_index where indrelid = 'bsky.record'::regclass`

test.for(['record', 'account_check', 'account_deletion'])(
  'a table that somebody holds does not hold up the look, which names them: %s',
  async (table, { database }) => {
    await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
    await db.query(`insert into record (uri, cid, did, json, "indexedAt") select 'at://x/' || n, 'x', 'did:plc:x', repeat('x', 500), '' from generate_series(1, 1000) n`) // prettier-ignore
    await db.query('vacuum analyze record')
    const [{ bytes } = { bytes: 0 }] = await queryOnce<{ bytes: number }>(database, MAIN_BYTES)
    expect(bytes).toBeGreaterThan(500_000)
    const dueAt = new Date(Date.now() - 7_200_000).toISOString()
    await db.query(`insert into account_check values ('did:plc:x', 'new', $1, null, 0)`, [dueAt])
    const before = await inspectPostgres(db)
    expect(before.overdue?.checks.new).toBeGreaterThan(7_000)
    const holder = await db.acquire()
    try {
      const lock = `begin; lock table ${table} in access exclusive mode`
      await holder.query(lock)
      const { tables, overdue, longTransactions } = await inspectPostgres(db, { longSeconds: 0 })
      expect(longTransactions.map(({ query }) => query)).toEqual([lock])
      // Of all tables that which could be had without a lock, or of none that could not.
      expect(tables.find(({ name }) => name === 'record')?.bytes).toBe(bytes)
      expect(tables.length).toBe(before.tables.length)
      expect(overdue === undefined).toBe(table !== 'record')
    } finally {
      holder.release(true)
    }
  },
)
