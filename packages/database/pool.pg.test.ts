import { Client } from 'pg'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { PoolStarvedError } from './errors.ts'
import { DatabasePool } from './pool.ts'
import type { PoolOptions, Session } from './pool.ts'
import { reasonOf } from './testing/reason-of.ts'
import { cuttingProxy } from './testing/cutting-proxy.ts'
import { failure } from './testing/statements.ts'

function poolOf(url: string, options: Partial<PoolOptions> = {}): DatabasePool {
  return new DatabasePool({ url, schema: 'bsky', size: 2, role: 'indexer', consumer: 'one', ...options })
}

/** A role of the test's own, without any right but to connect. */
async function ownRole(url: string): Promise<AsyncDisposable & { role: string; url: string; admin: DatabasePool }> {
  const role = `role_${new URL(url).pathname.slice(1)}`
  const admin = new DatabasePool({ url, schema: 'public', size: 1, role: 'admin' })
  await admin.query(`create role ${role} login password 'pw'`)
  const own = Object.assign(new URL(url), { username: role, password: 'pw' })
  const drop = async (): Promise<void> => {
    await admin.query(`drop owned by ${role}`)
    await admin.query(`drop role ${role}`)
    await admin.close()
  }
  return { role, url: own.href, admin, [Symbol.asyncDispose]: drop }
}

/** As a daemon logs it. */
function loggedLine(error: Error): string {
  let line = ''
  createLogger({ role: 'test', build: 'test', destination: { write: (text) => void (line += text) } }).warn({
    err: error,
  })
  return line
}

test('every session is set up: schema, name, time zone, limits', async ({ database }) => {
  await using pool = poolOf(database, { statementMs: 5000 })
  const { rows } = await pool.query(
    `select current_setting('search_path') as path, current_setting('application_name') as name, current_setting('timezone') as zone,
            current_setting('statement_timeout') as statement, current_setting('idle_in_transaction_session_timeout') as idle,
            current_setting('jit') as jit`,
  )
  expect(rows).toEqual([
    { path: 'bsky, public', name: 'sluice-indexer/one', zone: 'UTC', statement: '5s', idle: '1min', jit: 'off' },
  ])
})

test('no setting of the role changes what a statement means, or ends it before its own time', async ({
  emptyDatabase,
}) => {
  const odd = {
    array_nulls: 'off',
    row_security: 'on',
    timezone: 'Asia/Tokyo',
    jit: 'on',
    datestyle: 'German',
    extra_float_digits: '-10',
    default_transaction_isolation: 'serializable',
    standard_conforming_strings: 'off',
    lock_timeout: '1ms',
    idle_session_timeout: '1min',
  }
  await using own = await ownRole(emptyDatabase)
  for (const [name, value] of Object.entries(odd))
    await own.admin.query(`alter role ${own.role} set ${name} to '${value}'`)
  const bare = new Client(own.url)
  bare.on('error', () => {})
  await bare.connect()
  expect((await bare.query(`select current_setting('array_nulls') as nulls`)).rows).toEqual([{ nulls: 'off' }])
  await bare.end()

  await using pool = poolOf(own.url)
  const { rows } = await pool.query(
    `select $1::text[] as texts, timestamptz '2026-01-02' as at, 1766000000000.5::float8 as ms, '\\n' as backslash,
            current_setting('transaction_isolation') as isolation, current_setting('row_security') as policies,
            current_setting('lock_timeout') as lock, current_setting('idle_session_timeout') as idle, current_setting('jit') as jit`,
    [[null, undefined]],
  )
  expect(rows).toEqual([
    {
      texts: [null, null],
      at: '2026-01-02 00:00:00+00',
      ms: 1766000000000.5,
      backslash: String.raw`\n`,
      isolation: 'read committed',
      policies: 'off',
      lock: '0',
      idle: '0',
      jit: 'off',
    },
  ])
})

test('rows that a policy hides are an error, never absent without a word', async ({ emptyDatabase }) => {
  await using own = await ownRole(emptyDatabase)
  await own.admin.query(`create table t (id int); insert into t values (1); alter table t enable row level security`)
  await own.admin.query(`grant all on t to ${own.role}`)
  await using pool = poolOf(own.url)
  const error = await failure(pool.query('select id from public.t'))
  expect(error).toBeInstanceOf(FatalError)
  expect([reasonOf(error), error.message]).toEqual([
    'privilege',
    expect.stringContaining('row-level security policy for table "t"'),
  ])
})

test('a pool that finds by key plans no scan of a table, however small it is or seems', async ({ database }) => {
  const plan = async (byKey: boolean): Promise<string> => {
    await using pool = poolOf(database, { byKey })
    await pool.query('analyze record')
    const { rows } = await pool.query<{ 'QUERY PLAN': string }>(
      `explain select record.uri from unnest(array['a', 'b']) as key join record on record.uri = key`,
    )
    return rows.map((row) => row['QUERY PLAN']).join('\n')
  }
  expect(await plan(false)).toContain('Seq Scan on record')
  expect(await plan(true)).toMatch(/Nested Loop[^]*Index Only Scan using record_pkey/)
})

test('times come back as PostgreSQL has them and a bigint as a number that is exact', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase)
  const { rows } = await pool.query(
    `select timestamptz '2026-01-02T03:04:05.678901Z' as at, date '2026-01-02' as day, 9007199254740991::bigint as large, '{"a":1}'::jsonb as json`,
  )
  expect(rows).toEqual([
    { at: '2026-01-02 03:04:05.678901+00', day: '2026-01-02', large: 9007199254740991, json: { a: 1 } },
  ])
  await expect(pool.query('select 9007199254740993::bigint')).rejects.toThrow(/too large/)
})

test('a starved pool says so after the wait it was given, naming itself, and serves again when a connection is back', async ({
  emptyDatabase,
}) => {
  await using pool = poolOf(emptyDatabase, { acquireMs: 2_000 }) // long enough to connect on a busy machine
  const lent = [await pool.acquire(), await pool.acquire()]
  const waiting = failure(pool.query('select 1'))
  expect(pool.gauges()).toEqual({ total: 2, idle: 0, waiting: 1 })
  const error = await waiting
  expect(error).toBeInstanceOf(PoolStarvedError)
  expect(error).toBeInstanceOf(TransientError)
  expect(error.message).toContain('sluice-indexer/one')
  expect(error.message).toContain('DB_POOL_SIZE')
  expect(reasonOf(error)).toBe('pool-starved')
  for (const client of lent) client.release()
  await pool.query('select 1')
  expect(pool.gauges()).toEqual({ total: 2, idle: 2, waiting: 0 })
})

test('a wait that is aborted ends at once and takes no connection with it', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase, { size: 1 })
  const lent = await pool.acquire()
  const abort = new AbortController()
  const waiting = failure(pool.acquire(abort.signal))
  abort.abort()
  expect((await waiting).name).toBe('AbortError')
  lent.release()
  await expect.poll(() => pool.gauges()).toEqual({ total: 1, idle: 1, waiting: 0 })
  await pool.query('select 1')
})

test('an idle connection that the server ends is told, in a line that can be read, and replaced', async ({
  emptyDatabase,
}) => {
  const told: Error[] = []
  await using pool = poolOf(emptyDatabase, { onIdleError: (error) => told.push(error) })
  await pool.query('select 1')
  const admin = new Client(emptyDatabase)
  await admin.connect()
  await admin.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sluice-indexer/one' and datname = current_database()`,
  )
  await admin.end()
  await expect.poll(() => told.length).toBeGreaterThan(0)
  const line = loggedLine(told[0]!)
  expect(line).toContain('terminating connection due to administrator command')
  expect(line.length).toBeLessThan(2_000)
  await expect.poll(() => pool.gauges().total).toBe(0)
  const { rows } = await pool.query('select 1 as one')
  expect(rows).toEqual([{ one: 1 }])
})

test('a lent connection that the server ends between two statements fails the second, not the process', async ({
  emptyDatabase,
}) => {
  await using pool = poolOf(emptyDatabase)
  const client = await pool.acquire()
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  const { promise: ended, resolve } = Promise.withResolvers<void>()
  client.once('end', resolve)
  await pool.query('select pg_terminate_backend($1)', [rows[0]!.pid])
  await ended
  const error = await failure(client.query('select 1'))
  expect(reasonOf(error)).toBe('connection')
  client.release(error)
  await expect.poll(() => pool.gauges().total).toBe(1)
})

test('a server that is not there is a transient error, and leaves nothing in the pool', async ({ emptyDatabase }) => {
  const url = new URL(emptyDatabase)
  url.port = '1'
  await using pool = poolOf(url.href)
  const error = await failure(pool.query('select 1'))
  expect(error).toBeInstanceOf(TransientError)
  expect(error.message).toContain('ECONNREFUSED')
  expect(error.message).not.toContain(decodeURIComponent(url.password))
  expect(pool.gauges()).toEqual({ total: 0, idle: 0, waiting: 0 })
})

test('a wrong password and a missing database are fatal, and say what to do', async ({ emptyDatabase }) => {
  for (const [part, value, reason] of [
    ['password', 'wrong', 'login'],
    ['pathname', '/nowhere', 'no-database'],
  ] as const) {
    const url = new URL(emptyDatabase)
    url[part] = value
    await using pool = poolOf(url.href)
    const error = await failure(pool.query('select 1'))
    expect(error).toBeInstanceOf(FatalError)
    expect(reasonOf(error)).toBe(reason)
    expect(error.message).toContain('DB_POSTGRES_URL')
  }
})

test('a statement that takes too long is cut by the server and is transient', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase, { statementMs: 50 })
  const error = await failure(pool.query('select pg_sleep(30)'))
  expect(error).toBeInstanceOf(TransientError)
  expect(reasonOf(error)).toBe('statement-timeout')
})

test('a lock that does not come is transient', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase)
  await pool.query('create table t (id int)')
  const holder = await pool.acquire()
  await holder.query('begin; lock table t')
  const error = await failure(pool.query(`set lock_timeout to 20; lock table t`))
  expect(reasonOf(error)).toBe('lock-timeout')
  expect(error).toBeInstanceOf(TransientError)
  await holder.query('rollback')
  holder.release()
})

test('what the server refuses for its data is refused with its reason', async ({ database }) => {
  await using pool = poolOf(database)
  const cases: [text: string, values: unknown[], reason: string][] = [
    [`insert into bookmark values ($1, '', '', '', '')`, ['a\0b'], 'invalid-text'],
    [`insert into did_cache values ('', $1, 0)`, ['"\\u0000"'], 'invalid-text'],
    [`insert into did_cache values ('', '{}', $1)`, ['9'.repeat(30)], 'invalid-value'],
    [`insert into mute ("subjectDid") values ($1)`, ['did:x'], 'constraint'],
    [`insert into bookmark values (repeat(md5($1), 1000) || (select string_agg(md5(i::text), '') from generate_series(1, 1000) i), '', '', '', '')`, ['x'], 'too-large'], // prettier-ignore
  ]
  for (const [text, values, reason] of cases) {
    expect([text, reasonOf(await failure(pool.query(text, values)))]).toEqual([text, reason])
  }
})

test('a server that takes no writes, or no more connections, is transient', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase)
  const readOnly = await failure(
    pool.query('set default_transaction_read_only to on').then(() => pool.query('create table t (id int)')),
  )
  expect([readOnly.constructor, reasonOf(readOnly)]).toEqual([TransientError, 'read-only'])

  const role = `limited_${process.pid}`
  await using admin = poolOf(emptyDatabase, { role: 'admin' })
  await admin.query(`create role ${role} login password 'pw' connection limit 0`)
  const url = new URL(emptyDatabase)
  url.username = role
  url.password = 'pw'
  await using limited = poolOf(url.href)
  const full = await failure(limited.query('select 1'))
  expect([full.constructor, reasonOf(full)]).toEqual([TransientError, 'too-many-connections'])
  await admin.query(`drop role ${role}`)
})

test('a schema name that would need quoting is refused before anything is sent', async ({ emptyDatabase }) => {
  for (const schema of ['', 'a b', 'x"; drop table record; --', '1a']) {
    expect(() => poolOf(emptyDatabase, { schema })).toThrow(FatalError)
  }
})

test('statements are sent without waiting for the answers before them', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase)
  const client = await pool.acquire()
  const other = await pool.acquire()
  await other.query('create table gate (id int)')
  await other.query('begin; lock table gate')
  const answers = [
    client.query('select id from gate'),
    client.query('select 2 as two'),
    client.query('select 3 as three'),
  ]
  // The first waits for the lock, yet the last has left this process: nothing is queued in it.
  await expect.poll(() => client.connection.stream.writableLength).toBe(0)
  expect((client as unknown as { _queryQueue: unknown[] })._queryQueue).toEqual([])
  await other.query('rollback')
  expect((await Promise.all(answers)).map(({ rows }) => rows)).toEqual([[], [{ two: 2 }], [{ three: 3 }]])
  client.release()
  other.release()
})

test('statements of a session share one connection, each stands for itself, and after a failure it is not lent again', async ({
  emptyDatabase,
}) => {
  await using pool = poolOf(emptyDatabase)
  const pid = async (session: Session): Promise<number> =>
    (await session.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid
  const pids = await pool.session((session) => Promise.all([pid(session), pid(session), pid(session)]))
  expect(new Set(pids)).toEqual(new Set([await pid(pool)]))
  await pool.session(async (session) => {
    const error = await failure(session.query('select 1/0'))
    expect(reasonOf(error)).toBe('invalid-value')
    expect(await pid(session)).toBe(pids[0])
  })
  expect(pool.gauges().total).toBe(0)
  expect(await pid(pool)).not.toBe(pids[0])
})

test('an answer that never comes is waited for little longer than a statement may take, and is transient', async ({
  emptyDatabase,
}) => {
  await using proxy = await cuttingProxy(emptyDatabase)
  await using pool = poolOf(proxy.url, { statementMs: 500 })
  await pool.query('select 1')
  const swallowed = proxy.swallow()
  const error = await failure(pool.query('select 2'))
  expect([error.constructor, reasonOf(error)]).toEqual([TransientError, 'connection'])
  expect(swallowed()).toBeGreaterThan(0)
})

test('a pool that is closed twice is closed', async ({ emptyDatabase }) => {
  const pool = poolOf(emptyDatabase)
  await pool.query('select 1')
  await pool.close()
  await pool.close()
  expect(pool.gauges().total).toBe(0)
})
