/**
 * `sluice prune` keeps the tombstones that a dead letter still needs, wherever it is: buried, put back, or buried
 * again.
 */
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { bury } from '@sluice/streams/dead-letters.ts'
import { listDeadLetters } from '@sluice/streams/testing/list-letters.ts'
import type { Finding } from './doctor/finding.ts'
import { runCli, type Said } from './testing/run.ts'

const STREAM = 'firehose_live'
const GROUP = 'firehose_group'
/** Forty days ago. */
const OLD_ID = `${Date.now() - 40 * 86_400_000}-7`

interface World {
  redis: Redis
  sluice: (...args: string[]) => Promise<Said>
  tombstones: () => Promise<number>
  /** Takes the only entry of the stream, and gives it up. */
  buryIt: () => Promise<void>
}

const test = base.extend('world', async ({ redisUrl, database }, { onCleanup }): Promise<World> => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  onCleanup(() => redis.destroy())
  await redis.xGroupCreate(STREAM, GROUP, '0', { MKSTREAM: true })
  const at = `to_char(now() - make_interval(days => 35), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
  await queryOnce(
    database,
    `insert into bsky.tombstone (uri, did, rev, "deletedAt") values ('at://x/y/z', 'x', '3l', ${at})`,
  )
  return {
    redis,
    sluice: (...args) => runCli(args, { REDIS_URL: redisUrl, DB_POSTGRES_URL: database }),
    async tombstones() {
      const [row] = await queryOnce<{ n: number }>(database, 'select count(*)::int as n from bsky.tombstone')
      return row!.n
    },
    async buryIt() {
      const [entry] = (await redis.xRange(STREAM, '-', '+'))!
      const { id: entryId, message: fields } = entry!
      await redis.sendCommand(['XREADGROUP', 'GROUP', GROUP, 'one', 'STREAMS', STREAM, '>'])
      await bury(redis, { stream: STREAM, group: GROUP, entryId, fields, reason: 'odd', message: 'no', attempts: 1 })
    },
  }
})

const refused = { code: 1, stderr: expect.stringContaining('a dead letter is older') as string }

test('a tombstone stays while an old dead letter is buried, while it waits where it was put back, and when it died again', async ({
  world: { redis, sluice, tombstones, buryIt },
}) => {
  await redis.xAdd(STREAM, OLD_ID, { event: '{}' })
  await buryIt()
  expect(await sluice('prune', '--yes')).toMatchObject(refused)
  for (let retries = 1; retries <= 2; retries++) {
    expect(await sluice('dlq', 'retry', '--all')).toMatchObject({ code: 0 })
    expect(await sluice('prune', '--yes')).toMatchObject(refused)
    await buryIt()
    expect(await listDeadLetters(redis, STREAM, 10)).toMatchObject([{ retries, firstId: OLD_ID }])
    expect(await sluice('prune', '--yes')).toMatchObject(refused)
  }
  expect(await tombstones()).toBe(1)
  expect(await sluice('dlq', 'drop', '--all', '--yes')).toMatchObject({ code: 0 })
  expect(await sluice('prune', '--yes')).toMatchObject({ code: 0 })
  expect(await tombstones()).toBe(0)
})

test('what came lately keeps no older tombstone, however often it was put back', async ({
  world: { redis, sluice, tombstones, buryIt },
}) => {
  await redis.xAdd(STREAM, '*', { event: '{}' })
  await buryIt()
  await sluice('dlq', 'retry', '--all')
  expect(await sluice('prune')).toMatchObject({ code: 0 })
  await buryIt()
  expect(await sluice('prune', '--yes')).toMatchObject({ code: 0 })
  expect(await tombstones()).toBe(0)
})

test('a dry run reads no large table whole: it says what it found among the first rows, and how many there are', async ({
  database,
  world: { sluice, tombstones },
}) => {
  const at = `to_char(now() - make_interval(days => 35), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
  await queryOnce(
    database,
    `insert into bsky.tombstone (uri, did, rev, "deletedAt") select 'at://y/' || i, 'y', '3l', ${at} from generate_series(1, 120000) i`,
  )
  await queryOnce(database, 'analyze bsky.tombstone')
  const scans = async (): Promise<number> => {
    const [row] = await queryOnce<{ n: number }>(
      database,
      `select pg_stat_get_numscans('bsky.tombstone'::regclass)::int as n`,
    )
    return row!.n
  }
  const before = await scans()
  const said = await sluice('prune')
  expect(said.stdout).toMatch(/would remove 100,000 rows of the first 100,000, of about 120,0\d\d in all, from before/)
  expect(await scans()).toBe(before)
  expect(await sluice('prune', '--yes')).toMatchObject({
    stdout: expect.stringContaining('removed 120,001 rows') as string,
  })
  expect(await tombstones()).toBe(0)
})

test('of what does not say when it came, any age is believed', async ({ world: { redis, sluice, tombstones } }) => {
  // Put back by a version that did not note it.
  const id = await redis.xAdd(STREAM, '*', { event: '{}', retries: '1' })
  expect(await sluice('prune', '--yes')).toMatchObject(refused)
  await redis.xDel(STREAM, id)
  await redis.xAdd(`${STREAM}_dlq`, '*', { reason: 'odd', payload: '{"event":"x"}' })
  expect(await sluice('prune', '--yes')).toMatchObject(refused)
  expect(await tombstones()).toBe(1)
})

test('what may not be looked at is not taken for empty: prune refuses, and doctor names the permission', async ({
  database,
  world: { tombstones },
}) => {
  await using server = await startRedis()
  const admin = await connectRedis({ url: server.url(), name: 'admin' })
  try {
    await admin.sendCommand(['ACL', 'SETUSER', 'guest', 'on', '>pw', '~*', '+@all', '-memory'])
    await admin.xAdd(STREAM, OLD_ID, { event: '{}' })
  } finally {
    admin.destroy()
  }
  const env = { REDIS_URL: server.url().replace('redis://', 'redis://guest:pw@'), DB_POSTGRES_URL: database }
  const named = expect.stringMatching(/NOPERM.*memory/) as string
  expect(await runCli(['prune', '--yes'], env)).toMatchObject({ code: 78, stderr: named })
  expect(await tombstones()).toBe(1)
  const { stdout } = await runCli(['doctor', '--json'], { ...env, METRICS_PORT: '0' })
  const { findings } = JSON.parse(stdout) as { findings: Finding[] }
  const away = findings.find(({ id }) => id === 'redis-away')
  expect(away).toMatchObject({ what: 'Redis refuses us', evidence: named, mend: expect.stringContaining('ACL SETUSER') as string }) // prettier-ignore
})
