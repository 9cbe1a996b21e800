import { setTimeout as delay } from 'node:timers/promises'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { retryKey } from './backfill-queue.ts'
import type { Redis } from './connection.ts'
import { bury, countDeadLetters } from './dead-letters.ts'
import { recordIncident } from './incidents.ts'
import { inspect, type Inspection } from './inspect.ts'
import { leaseKey } from './lease.ts'
import { settingProblems } from './redis-settings.ts'
import { CONSUMERS_AGED, streamState } from './stream-state.ts'
import { eventsFrom } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'

const { stream, group } = address
const MINUTE_MS = 60_000

/** An entry that was appended so long ago. */
const idAt = (agoMs: number): string => `${Date.now() - agoMs}-0`

async function look(redis: Redis, streams = [stream]) {
  const found = await inspect(redis, { streams })
  return { ...found, one: found.streams[0]! }
}

test('an empty Redis is described, not refused: nothing exists, nothing lags', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const found = await inspect(redis)
  expect(found.streams.map((one) => [one.stream, one.exists, one.lagSeconds])).toEqual(
    ['firehose_live', 'firehose_backfill', 'repo_backfill', 'label_live', 'repo_backfill_priority'].map((name) => [
      name,
      false,
      0,
    ]),
  )
  expect(found.cursors).toEqual([])
  expect(found.incidents).toEqual({ total: 0, newest: [] })
  expect(found.backfill).toEqual({
    stream: 'repo_backfill',
    normal: 0,
    priority: 0,
    retries: 0,
    overdue: 0,
    hosts: 0,
  })
  expect(await redis.dbSize()).toBe(0)
})

test('lag is the age of the oldest entry that is not acked, handed out or not', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  for (const minutes of [30, 20, 10]) await redis.xAdd(stream, idAt(minutes * MINUTE_MS), { event: 'x'.repeat(500) })
  const withoutGroup = (await look(redis)).one
  expect(withoutGroup.lagSeconds).toBeCloseTo(30 * 60, -1)
  expect(withoutGroup.groups).toEqual([])

  await redis.xGroupCreate(stream, group, '0')
  await redis.xReadGroup(group, 'two', { key: stream, id: '>' }, { COUNT: 2 })
  const held = (await look(redis)).one
  expect(held).toMatchObject({ exists: true, entries: 3 })
  expect(held.bytes).toBeGreaterThan(1_500)
  expect(held.oldest!.ageSeconds).toBeCloseTo(30 * 60, -1)
  expect(held.newest!.ageSeconds).toBeCloseTo(10 * 60, -1)
  expect(held.lagSeconds).toBeCloseTo(30 * 60, -1)
  const [state] = held.groups
  expect(state).toMatchObject({ group, pending: 2, undelivered: 1, oldestPending: { consumer: 'two', deliveries: 1 } })
  expect(state!.oldestPending!.idleSeconds).toBeLessThan(60)

  // Acked by a program that does not delete: such an entry is done.
  const [first, second, third] = (await redis.xRange(stream, '-', '+')) ?? []
  await redis.xAck(stream, group, [first!.id, second!.id])
  expect((await look(redis)).one.lagSeconds).toBeCloseTo(10 * 60, -1)
  await redis.xReadGroup(group, 'two', { key: stream, id: '>' })
  await redis.xAck(stream, group, third!.id)
  expect((await look(redis)).one).toMatchObject({ lagSeconds: 0, entries: 3 })
})

test('each consumer is told with its own oldest pending entry, those that hold the most first', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await redis.xGroupCreate(stream, group, '0', { MKSTREAM: true })
  const names = Array.from({ length: CONSUMERS_AGED + 1 }, (_, i) => `c${String(i).padStart(3, '0')}`)
  for (const [i, consumer] of names.entries()) {
    // The last two hold one entry each, all others two.
    const entries = i < names.length - 2 ? 2 : 1
    for (let n = 0; n < entries; n++)
      await redis.xAdd(stream, idAt((names.length - i) * MINUTE_MS - n), { event: '{}' })
    await redis.xReadGroup(group, consumer, { key: stream, id: '>' })
  }
  await redis.xGroupCreateConsumer(stream, group, 'idle')
  const { consumers, oldestPending } = (await look(redis)).one.groups[0]!
  expect(oldestPending).toMatchObject({ consumer: 'c000' })
  const aged = consumers.filter((one) => one.oldestPending !== undefined)
  expect(aged.map(({ consumer }) => consumer)).toEqual(names.slice(0, CONSUMERS_AGED))
  for (const [i, one] of aged.entries()) expect(one.oldestPending!.ageSeconds).toBeCloseTo((names.length - i) * 60, -1)
  // The watch of the indexers looks every ten seconds, and shows none of them.
  const now = Date.now()
  const watched = await streamState(stream, { redis, now, leases: [], reasons: false })
  expect(watched.groups[0]!.consumers.filter((one) => one.oldestPending !== undefined)).toEqual([])
})

test('consumers are told apart: alive under a lease, or a name that nobody answers to', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await redis.xGroupCreate(stream, group, '0', { MKSTREAM: true })
  await redis.xGroupCreateConsumer(stream, group, 'gone')
  tools.consume({ redis, reader: await tools.connect(redisUrl) })
  await expect.poll(() => redis.exists(leaseKey(address))).toBe(1)
  await delay(20)
  const { consumers } = (await look(redis)).one.groups[0]!
  expect(consumers.map(({ consumer }) => consumer)).toEqual(['gone', 'one'])
  expect(consumers[0]).not.toHaveProperty('holder')
  expect(consumers[0]!.idleSeconds).toBeGreaterThan(0)
  expect(consumers[1]).toMatchObject({ pending: 0, holder: expect.stringContaining(`pid ${process.pid}`) as string })
})

test('cursors of every host with the age of their event; 0 is a cursor, an enumeration may be done', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await redis.mSet({
    'firehose_live:cursor:relay.example': '123',
    'firehose_live:time:relay.example': new Date(Date.now() - 5 * MINUTE_MS).toISOString(),
    'label_live:cursor:labeler.example:8080': '0',
    'repo_backfill:cursor:relay.example': '!ingester-done',
  })
  await redis.sAdd('odd:cursor:key', 'not a cursor')
  const { cursors } = await look(redis)
  expect(cursors.map(({ stream: of, host, cursor, isDone }) => [of, host, cursor, isDone])).toEqual([
    ['firehose_live', 'relay.example', '123', false],
    ['label_live', 'labeler.example:8080', '0', false],
    ['repo_backfill', 'relay.example', '!ingester-done', true],
  ])
  expect(cursors.map(({ ageSeconds }) => ageSeconds && Math.round(ageSeconds / 60))).toEqual([5, undefined, undefined])
})

test('dead letters are counted by reason, over any number of pages', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  for (let i = 0; i < 250; i++) {
    const reason = i % 5 === 0 ? 'crash-loop' : 'not-json'
    await bury(redis, {
      stream,
      group,
      entryId: `${i + 1}-0`,
      fields: { event: '{' },
      reason,
      message: '',
      attempts: 1,
    })
  }
  expect(await countDeadLetters(redis, stream)).toEqual({ total: 250, reasons: { 'crash-loop': 50, 'not-json': 200 } })
  expect((await look(redis)).one).toMatchObject({ exists: false, deadLetters: { total: 250, cap: 100_000 } })
})

test('the backfill queue: what waits, what is overdue, when the next is due; incidents newest first', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await redis.xAdd('repo_backfill', '*', { repo: '{}' })
  await redis.xAdd('repo_backfill_priority', '*', { repo: '{}' })
  await redis.zAdd(retryKey('repo_backfill'), [
    { score: Date.now() + 10 * MINUTE_MS, value: 'a' },
    { score: Date.now() + 20 * MINUTE_MS, value: 'b' },
  ])
  const later = (await look(redis)).backfill
  expect(later).toMatchObject({ normal: 1, priority: 1, retries: 2, overdue: 0 })
  expect(later.nextRetrySeconds).toBeCloseTo(600, -1)
  await redis.zAdd(retryKey('repo_backfill_priority'), { score: Date.now() - MINUTE_MS, value: 'c' })
  expect((await look(redis)).backfill).toMatchObject({ retries: 3, overdue: 1, nextRetrySeconds: 0 })

  for (const role of ['first', 'second', 'third']) {
    await recordIncident(redis, { kind: 'group-lost', role, what: 'gone', action: 'made' })
  }
  const { incidents } = await inspect(redis, { incidents: 2 })
  expect(incidents.total).toBe(3)
  expect(incidents.newest.map(({ role }) => role)).toEqual(['third', 'second'])
})

test('a key of another type is said for its stream, and hides nothing else', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await redis.set('broken', 'a string')
  await tools.producer(redis).append(eventsFrom(0, 3), never)
  const { streams } = await inspect(redis, { streams: ['broken', stream] })
  expect(streams[0]).toMatchObject({ stream: 'broken', exists: true, entries: 0 })
  expect(streams[0]!.error).toContain('another program uses the same keys')
  expect(streams[1]).toMatchObject({ entries: 3 })
})

test('what its user may not look at is an error that names the permission, not an empty stream', async ({ tools }) => {
  await using server = await startRedis()
  const admin = await tools.connect(server.url())
  await tools.producer(admin).append(eventsFrom(0, 3), never)
  await admin.sendCommand(['ACL', 'SETUSER', 'guest', 'on', '>pw', '~*', '+@all', '-memory'])
  const redis = await tools.connect(server.url().replace('redis://', 'redis://guest:pw@'))
  await expect(inspect(redis, { streams: [stream] })).rejects.toMatchObject({
    name: 'FatalError',
    message: expect.stringMatching(/NOPERM.*memory/) as string,
  })
})

test('a Redis that cannot be asked is an error, not an empty picture', async ({ tools }) => {
  const server = await startRedis()
  const redis = await tools.connect(server.url())
  await server.stop()
  await expect(inspect(redis)).rejects.toMatchObject({ name: 'TransientError' })
})

test('the server tells how full it is and what is wrong with it', async ({ tools }) => {
  await using server = await startRedis({ maxmemory: '20mb' })
  const redis = await tools.connect(server.url())
  const settings = async (): Promise<string[]> => (await seen()).server.problems.map(({ setting }) => setting)
  const seen = async (): Promise<Inspection> => inspect(redis, { streams: [] })
  const { server: state } = await seen()
  expect(state.memory).toMatchObject({ maxBytes: 20 << 20, policy: 'noeviction', evictedKeys: 0 })
  expect(state.memory.ratio).toBeGreaterThan(0)
  expect(state.memory.ratio).toBeLessThan(0.5)
  expect(state.persistence).toMatchObject({ appendonly: true, lastWriteOk: true, loading: false })
  expect(state.role).toBe('master')
  expect(state.version).toMatch(/^(redis|valkey) \d/)
  expect(await settings()).toEqual([])

  await redis.configSet('maxmemory-policy', 'allkeys-lru')
  const filler = 'x'.repeat(100_000)
  for (let i = 0; i < 300; i++) await redis.set(`filler:${i}`, filler)
  expect((await seen()).server.memory.evictedKeys).toBeGreaterThan(0)
  expect(await settings()).toEqual(['maxmemory-policy', 'evicted-keys'])
  await redis.configSet('appendonly', 'no')
  expect(await settings()).toEqual(['maxmemory-policy', 'appendonly', 'evicted-keys'])
})

test('an append-only file that cannot be written, and a replica, are problems', () => {
  const info = 'redis_version:7.0.15\r\nmaxmemory:1\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n'
  expect(settingProblems(`${info}aof_last_write_status:ok\r\nrole:master\r\n`)).toEqual([])
  const problems = settingProblems(`${info}aof_last_write_status:err\r\nrole:slave\r\n`)
  expect(problems.map(({ setting, losesData }) => [setting, losesData])).toEqual([
    ['aof-write', false],
    ['role', false],
  ])
})
