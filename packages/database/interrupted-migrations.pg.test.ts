/** Migrations that somebody else's work holds up or ends: they wait for it, or go on later with what is left. */
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { migrate, pendingMigrations } from './migrate.ts'
import { MIGRATIONS } from './migrations/list.ts'
import { DatabasePool } from './pool.ts'
import { cuttingProxy } from './testing/cutting-proxy.ts'
import { SCHEMA, failure, withClient } from './testing/statements.ts'

const ALL = MIGRATIONS.map(({ name }) => name)
/** The lock of kysely's migrator, which the AppView runs. */
const KYSELY_LOCK = '3853314791062309107'
const WAITING = `
  select pid, wait_event from pg_stat_activity
  where application_name = 'sluice-migrate' and datname = current_database() and wait_event_type = 'Lock'`

test('while the migrator of an AppView is at work a migration waits, and makes nothing', async ({ emptyDatabase }) => {
  const report = await withClient(emptyDatabase, async (appview) => {
    await appview.query(`begin; select pg_advisory_xact_lock(${KYSELY_LOCK})`)
    const migrating = migrate(emptyDatabase, SCHEMA)
    migrating.catch(() => {})
    await withClient(emptyDatabase, async (watch) => {
      const waiting = async () => (await watch.query(WAITING)).rows
      await expect.poll(waiting).toMatchObject([{ wait_event: 'advisory' }])
      expect((await watch.query('select from pg_namespace where nspname = $1', [SCHEMA])).rowCount).toBe(0)
    })
    await appview.query('commit')
    return await migrating
  })
  expect(report).toEqual({ applied: ALL })
})

test('D6 a migration whose connection is ended in the middle is transient, and the next run goes on with what is left', async ({
  emptyDatabase,
}) => {
  const [first, ...rest] = ['x/1', 'x/2'].map((name, i) => ({ name, sql: `create table made${i} ()` }))
  const held = { name: 'x/held', sql: 'lock table made0' }
  expect(await migrate(emptyDatabase, SCHEMA, [first!])).toEqual({ applied: [...ALL, first!.name] })
  const error = await withClient(emptyDatabase, async (holder) => {
    await holder.query(`begin; lock table ${SCHEMA}.made0 in access share mode`)
    const migrating = failure(migrate(emptyDatabase, SCHEMA, [first!, ...rest, held]))
    await withClient(emptyDatabase, async (watch) => {
      await expect.poll(async () => (await watch.query(WAITING)).rowCount).toBe(1)
      await watch.query(`select pg_terminate_backend(pid) from (${WAITING}) w`)
    })
    return await migrating
  })
  expect(error).toBeInstanceOf(TransientError)
  expect(error.message).toMatch(/^migrating schema "bsky"/)
  await using db = new DatabasePool({ url: emptyDatabase, schema: SCHEMA, size: 1, role: 'test' })
  expect(await pendingMigrations(db, [first!, ...rest, held])).toEqual([held.name])
  expect(await migrate(emptyDatabase, SCHEMA, [first!, ...rest, held])).toEqual({ applied: [held.name] })
})

test.for([
  ['before it is recorded', 'insert into sluice_migration', 'before', ['x/1', 'x/2']],
  ['when it is committed, and the answer is lost', 'commit; begin', 'after', ['x/2']],
] as const)(
  'D6 a connection that breaks in a migration %s is a transient failure, and the next run does the rest once',
  async ([, statement, when, left], { database }) => {
    const scripts = ['x/1', 'x/2'].map((name, i) => ({ name, sql: `create table made${i} ()` }))
    await using proxy = await cuttingProxy(database)
    proxy.cutAt(statement, when, 1)
    const error = await failure(migrate(proxy.url, SCHEMA, scripts))
    expect(proxy.cuts).toBe(1)
    expect(error).toBeInstanceOf(TransientError)
    expect(await migrate(database, SCHEMA, scripts)).toEqual({ applied: left })
    expect(await migrate(proxy.url, SCHEMA, scripts)).toEqual({ applied: [] })
  },
)
