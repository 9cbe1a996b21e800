/**
 * O3: what a daemon that cannot start ends with, as docs/operations.md ("When a daemon ends") has it. 78: its variables
 * are wrong, and no restart helps. 1: a server refuses it, and a restart helps when that was mended there. What comes
 * back by itself is waited for.
 */
import { transactionPooler } from '@sluice/database/testing/transaction-pooler.ts'
import { startDaemon, type Role } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis } from '@sluice/streams/connection.ts'

const NAMES = { INDEXER_CONSUMER: 'one', BACKFILLER_CONSUMER: 'one', PLC_URL: 'http://127.0.0.1:1' }
const UPSTREAM = { RELAY_HOSTS: 'ws://127.0.0.1:1', ALLOW_PRIVATE_HOSTS: 'true' }

/** Starts the daemon, waits for its end, before or after it was ready, and returns its exit code and its last lines. */
async function endOf(role: Role, env: Record<string, string>): Promise<{ code: number | null; said: string }> {
  try {
    await using daemon = await startDaemon({ role, env: { ...NAMES, ...UPSTREAM, ...env }, timeoutMs: 240_000 })
    const { code } = await daemon.exited
    return { code, said: daemon.logLines.join('\n') }
  } catch (error) {
    const said = (error as Error).message
    return { code: Number(/ended \(code (\d+)\)/.exec(said)?.[1]), said }
  }
}

function as(url: string, change: { username?: string; password?: string; pathname?: string }): string {
  return Object.assign(new URL(url), change).href
}

test('variables that are wrong end each role with 78', async ({ redisUrl }) => {
  const wrong: [Role, Record<string, string>, string][] = [
    ['ingester', { REDIS_URL: 'http://localhost' }, 'REDIS_URL'],
    ['backfiller', { REDIS_URL: redisUrl, BACKFILLER_CONCURENCY: '4' }, 'BACKFILLER_CONCURRENCY'],
    ['indexer', { REDIS_URL: redisUrl }, 'DB_POSTGRES_URL is required'],
    ['indexer', { REDIS_URL: redisUrl, DB_POSTGRES_URL: 'postgres://x/x', DB_POSTGRES_SCHEMA: 'b sky' }, 'DB_POSTGRES_SCHEMA'],
  ] // prettier-ignore
  for (const [role, env, says] of wrong)
    expect(await endOf(role, env), role).toEqual({ code: 78, said: expect.stringContaining(says) as string })
})

test('a Redis that refuses it, or holds what is not ours, ends each role with 1', async ({ database }) => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis({ maxmemory: '256mb' }))
  const redis = stack.adopt(await connectRedis({ url: server.url(), name: 'test' }), (client) => client.destroy())
  const of = (login: string) => server.url().replace('redis://', `redis://${login}@`)
  await redis.sendCommand(['ACL', 'SETUSER', 'weak', 'on', '>x', '~*', '+@all', '-xlen', '-info'])
  await redis.set('repo_backfill', 'of another program')
  await redis.set('firehose_live:shard', '1/2')
  const refused: [Role, Record<string, string>, string][] = [
    ['ingester', { REDIS_URL: of('weak:wrong') }, 'WRONGPASS'],
    ['ingester', { REDIS_URL: of('weak:x') }, 'NOPERM'],
    ['ingester', { REDIS_URL: server.url() }, 'holds shard 1/2'],
    ['backfiller', { REDIS_URL: of('weak:wrong') }, 'WRONGPASS'],
    ['backfiller', { REDIS_URL: server.url() }, 'WRONGTYPE'],
    ['indexer', { REDIS_URL: of('weak:wrong'), DB_POSTGRES_URL: database }, 'WRONGPASS'],
    ['indexer', { REDIS_URL: of('weak:x'), DB_POSTGRES_URL: database }, 'Redis refuses us'],
  ]
  for (const [role, env, says] of refused)
    expect(await endOf(role, env), role).toEqual({ code: 1, said: expect.stringContaining(says) as string })
})

test('a PostgreSQL that refuses it, or is not as it must be, ends the indexer with 1', async ({
  database,
  emptyDatabase,
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const pooler = stack.use(await transactionPooler(database, { sessions: 2, order: 'last' }))
  const name = new URL(database).pathname.slice(1)
  const [role, latin] = [`${name}_weak`, `${name}_latin`]
  const sql = (text: string) => queryOnce(as(database, { pathname: '/postgres' }), text)
  await sql(`create role ${role} login password 'x'`)
  stack.defer(async () => void (await sql(`drop role ${role}`)))
  await sql(`create database ${latin} encoding 'LATIN1' locale 'C' template template0`)
  stack.defer(async () => void (await sql(`drop database ${latin} with (force)`)))
  const asWeak = { username: role, password: 'x' }
  const byHand = { INDEXER_MIGRATE: 'false' }
  const refused: [Record<string, string>, string][] = [
    [{ DB_POSTGRES_URL: as(database, { password: 'wrong' }) }, '28P01'],
    [{ DB_POSTGRES_URL: as(database, { pathname: '/nowhere' }) }, '3D000'],
    [{ DB_POSTGRES_URL: as(database, { pathname: `/${latin}` }) }, 'has the encoding LATIN1'],
    [{ DB_POSTGRES_URL: emptyDatabase, ...byHand }, 'migrations are pending'],
    [{ DB_POSTGRES_URL: as(emptyDatabase, asWeak) }, '42501'],
    [{ DB_POSTGRES_URL: as(database, asWeak), ...byHand }, '42501'],
    [{ DB_POSTGRES_URL: pooler.url }, 'lends one session to several connections'],
    [{ DB_POSTGRES_URL: `${database}?sslmode=verify-full&sslrootcert=/nowhere.pem` }, 'sslrootcert'],
  ]
  for (const [env, says] of refused)
    expect(await endOf('indexer', { REDIS_URL: redisUrl, ...env })).toEqual({
      code: 1,
      said: expect.stringContaining(says) as string,
    })
  expect(pooler.mixedUp).toBeGreaterThan(0)
})

test('a folder that cannot be written ends the backfiller with 1', async ({ redisUrl }) => {
  expect(await endOf('backfiller', { REDIS_URL: redisUrl, BACKFILLER_SPOOL_DIR: '/proc/nowhere' })).toEqual({
    code: 1,
    said: expect.stringContaining('cannot write to the folder /proc/nowhere') as string,
  })
})

test('servers that do not answer are waited for: the process lives, and is not ready', async ({ redisUrl }) => {
  const away: [Role, Record<string, string>][] = [
    ['ingester', { REDIS_URL: 'redis://127.0.0.1:1' }],
    ['backfiller', { REDIS_URL: 'redis://127.0.0.1:1' }],
    ['indexer', { REDIS_URL: redisUrl, DB_POSTGRES_URL: 'postgres://127.0.0.1:1/x' }],
  ]
  for (const [role, env] of away) {
    await using daemon = await startDaemon({ role, env: { ...NAMES, ...UPSTREAM, ...env }, until: 'alive' })
    await expect.poll(async () => (await daemon.get('/ready')).body).toContain('ECONNREFUSED')
    expect((await daemon.get('/ready')).status, role).toBe(503)
  }
})
