/**
 * O2: troubles of the servers and of clocks, brought about on servers of their own: doctor names each, and nothing more
 * of it once its mend was followed to the letter.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DatabasePool } from '@sluice/database/pool.ts'
import { sharedEnvironment } from '@sluice/sandbox/children.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { postgresHome } from '@sluice/sandbox/postgres-home.ts'
import { startPostgres } from '@sluice/sandbox/postgres.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { SmallDisk } from '@sluice/sandbox/small-disk.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import type { Finding, FindingId } from './doctor/finding.ts'
import { between, slowServer } from './testing/between.ts'
import { findingsOf, idsOf } from './testing/doctor.ts'
import { applyMend } from './testing/mend.ts'
import { runCli } from './testing/run.ts'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))
const NO_DAEMONS = { SLUICE_DAEMONS: '', METRICS_PORT: '0' }

async function connected(url: string, stack: AsyncDisposableStack): Promise<Redis> {
  return stack.adopt(await connectRedis({ url, name: 'test' }), (redis) => redis.destroy())
}

async function found(env: Record<string, string>, id: FindingId): Promise<Finding> {
  const all = await findingsOf(env)
  const finding = all.find((one) => one.id === id)
  expect(finding, `${id} among ${all.map((one) => one.id).join(', ') || 'none'}`).toBeDefined()
  return finding!
}

test('keys that Redis threw away are named until its policy, its limit and a sweep have seen to them', async ({
  database,
}) => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis({ maxmemory: '8mb', settings: { 'maxmemory-policy': 'allkeys-lru' } }))
  const redis = await connected(server.url(), stack)
  const env = { ...sharedEnvironment(), ...NO_DAEMONS, REDIS_URL: server.url(), DB_POSTGRES_URL: database }
  for (let i = 0; i < 160; i++) await redis.set(`chains:${i}`, 'x'.repeat(100_000))
  expect(Number(/evicted_keys:(\d+)/.exec(await redis.info('stats'))![1])).toBeGreaterThan(0)

  const seen = await findingsOf(env)
  expect(seen.map(({ id }) => id)).toEqual(['redis-eviction', 'redis-near-limit', 'redis-evicted'])
  for (const { mend } of seen) expect(await applyMend(mend, redis, env), mend).toBeGreaterThan(0)
  expect(await redis.get('repo_backfill:sweep')).not.toBeNull()
  expect(await idsOf(env)).toEqual([])
})

test('a disk of Redis that is full is named, and so is a rewrite of the append-only file that failed there, until there is room', async ({
  database,
  skip,
}) => {
  await using stack = new AsyncDisposableStack()
  const disk = SmallDisk.mount()
  if (disk === undefined) return skip('nothing can be mounted here')
  stack.use(disk)
  const server = stack.use(await startRedis({ dir: join(disk.path, 'redis'), maxmemory: '256mb' }))
  const redis = await connected(server.url(), stack)
  const env = { ...sharedEnvironment(), ...NO_DAEMONS, REDIS_URL: server.url(), DB_POSTGRES_URL: database }
  const write = () => redis.set('repo_backfill:sweep', 'x'.repeat(100_000)).catch(String)
  await redis.set('chains:0', 'x'.repeat(100_000))
  expect(await idsOf(env)).toEqual([])

  disk.fill()
  await expect.poll(write).toContain('MISCONF')
  const full = await found(env, 'redis-disk')
  expect(full).toMatchObject({ severity: 'broken', evidence: expect.stringContaining('last write') as string })
  await redis.bgRewriteAof().catch(String)
  const rewritten = async () => /aof_last_bgrewrite_status:(\w+)/.exec(await redis.info('persistence'))![1]
  await expect.poll(rewritten).toBe('err')
  disk.clear()
  await expect.poll(write).toBe('OK')

  const unwritten = await found(env, 'redis-disk')
  expect(unwritten).toMatchObject({ severity: 'warning', evidence: expect.stringContaining('rewrite') as string })
  expect(await applyMend(unwritten.mend, redis, env), unwritten.mend).toBe(1)
  await expect.poll(() => idsOf(env)).toEqual([])
})

test('a Redis that is too old is named, and not as one that lacks a permission: it refuses our scripts', async ({
  database,
}) => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis({ maxmemory: '256mb' }))
  const redis = await connected(server.url(), stack)
  let told = 0
  const older = stack.use(
    await between(server.url(), (bytes, send) => {
      const at = bytes.indexOf('redis_version:')
      const valkey = bytes.indexOf('valkey_version:')
      if (at >= 0) told += bytes.write('6', at + 'redis_version:'.length)
      if (valkey >= 0) bytes.write('x', valkey)
      send(bytes)
    }),
  )
  await redis.sendCommand(['ACL', 'SETUSER', 'default', '-eval', '-evalsha', '-script'])
  const env = { ...NO_DAEMONS, REDIS_URL: older.url, DB_POSTGRES_URL: database }
  expect(await findingsOf(env)).toMatchObject([
    { id: 'redis-old', severity: 'broken', evidence: expect.stringMatching(/^Redis 6\.\S+ is too old/) as string },
  ])
  expect(told).toBeGreaterThan(0)
  await redis.sendCommand(['ACL', 'SETUSER', 'default', '+@all'])
  expect(await idsOf({ ...env, REDIS_URL: server.url() })).toEqual([])
})

test('servers that answer slowly are named, and the same servers by a short way are not', async ({ database }) => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis({ maxmemory: '256mb' }))
  const redis = stack.use(await slowServer(server.url(), 300))
  const postgres = stack.use(await slowServer(database, 300))
  const env = { ...sharedEnvironment(), ...NO_DAEMONS, REDIS_URL: server.url(), DB_POSTGRES_URL: database }
  expect(await idsOf(env)).toEqual([])
  expect(await idsOf({ ...env, REDIS_URL: redis.url, DB_POSTGRES_URL: postgres.url })).toEqual(['redis-slow', 'postgres-slow']) // prettier-ignore
  expect(Math.min(redis.delayed, postgres.delayed)).toBeGreaterThan(0)
})

test('a machine whose clock differs from that of the servers is told so, by how much and in which direction', async ({
  database,
}) => {
  await using server = await startRedis({ maxmemory: '256mb' })
  const env = { ...sharedEnvironment(), ...NO_DAEMONS, REDIS_URL: server.url(), DB_POSTGRES_URL: database }
  expect(await idsOf(env)).toEqual([])
  /** What the program says on a machine whose clock is ahead by so much. */
  const seen = (aheadMs: number): Finding[] => {
    const clock = `const now = Date.now; Date.now = () => now() + ${aheadMs}`
    const flags = ['--import', `data:text/javascript,${encodeURIComponent(clock)}`]
    const { stdout } = spawnSync(process.execPath, [...flags, MAIN, 'doctor', '--json'], { env, encoding: 'utf8' })
    return (JSON.parse(stdout) as { findings: Finding[] }).findings
  }
  const says = (word: string) =>
    ['Redis', 'PostgreSQL'].map((name) => ({
      id: 'clock-skew',
      evidence: expect.stringMatching(new RegExp(`^${name} is 1[01]\\.\\d s ${word}`)) as string,
    }))
  expect(seen(-10_500)).toMatchObject(says('ahead'))
  expect(seen(10_500)).toMatchObject(says('behind'))
})

test('a PostgreSQL with its shared memory in small pages is named when that is large, and its mend names the setting that turns huge ones off', async ({
  redisUrl,
}) => {
  const idsWith = async (settings: Record<string, string>): Promise<Finding[]> => {
    await using server = await startPostgres({ fast: true, settings: { huge_pages: 'off', ...settings } })
    const env = { ...NO_DAEMONS, REDIS_URL: redisUrl, DB_POSTGRES_URL: await server.createDatabase('appview') }
    expect(await runCli(['migrate'], env)).toMatchObject({ code: 0 })
    if (server.major >= 17) expect(await server.query('show huge_pages_status')).toEqual([{ huge_pages_status: 'off' }])
    return (await findingsOf(env)).filter(({ id }) => id.startsWith('postgres-'))
  }
  const seen = await idsWith({ shared_buffers: '2GB' })
  // Before 17 a server does not say which pages it has.
  if (seen.length > 0) {
    expect(seen).toMatchObject([{ id: 'postgres-small-pages', severity: 'warning' }])
    expect(seen[0]!.mend).toMatch(/vm\.nr_hugepages=1[01]\d\d .*huge_pages = try/)
  }
  expect(await idsWith({ shared_buffers: '64MB' })).toEqual([])
})

test('a PostgreSQL that is nearly out of the connections that it does not reserve is named, until some of them are given back', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const reserved = postgresHome().major >= 16 ? 4 : 0
  const settings = { max_connections: String(16 + reserved), superuser_reserved_connections: '2', ...(reserved > 0 && { reserved_connections: '4' }) } // prettier-ignore
  const server = stack.use(await startPostgres({ fast: true, settings }))
  const admin = await server.createDatabase('appview')
  const env = { ...NO_DAEMONS, REDIS_URL: redisUrl, DB_POSTGRES_URL: admin }
  expect(await runCli(['migrate'], env)).toMatchObject({ code: 0 })
  await server.query(`create role appview login password 'x'`)
  const url = Object.assign(new URL(admin), { username: 'appview', password: 'x' }).href
  const pool = stack.use(new DatabasePool({ url, schema: 'public', size: 14, role: 'AppView' }))
  const ofPostgres = async () => (await findingsOf(env)).filter(({ id }) => id.startsWith('postgres-'))
  expect(await ofPostgres()).toEqual([])

  const lent = stack.use(new AsyncDisposableStack())
  for (let i = 0; i < 12; i++) lent.adopt(await pool.acquire(), (client) => client.release(true))
  const [finding] = await ofPostgres()
  expect(finding).toMatchObject({ id: 'postgres-connections', evidence: expect.stringMatching(/^1[34] of 14; ours: sluice-AppView 12/) as string }) // prettier-ignore
  await lent.disposeAsync()
  await expect.poll(ofPostgres).toEqual([])
})
