import { setTimeout as delay } from 'node:timers/promises'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { Readiness } from '@sluice/runtime/readiness.ts'
import { parseMetric } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { watchStreams } from './stream-watch.ts'

test('depth, pending entries, dead letters and lag are told in /metrics, and the worst lag in /ready', async ({
  redisUrl,
}) => {
  const stop = new AbortController()
  const redis = await connectRedis({ url: redisUrl, name: 'watch', signal: stop.signal, onState: () => undefined })
  try {
    const minutesAgo = (minutes: number): string => `${Date.now() - minutes * 60_000}-1`
    await redis.xGroupCreate('one', 'group', '$', { MKSTREAM: true })
    for (const minutes of [30, 20, 10]) await redis.xAdd('one', minutesAgo(minutes), { event: '{}' })
    await redis.xReadGroup('group', 'reader', { key: 'one', id: '>' }, { COUNT: 2 })
    await redis.xAdd('one_dlq', '*', { reason: 'not-json' })
    const metrics = new Metrics({ role: 'indexer', build: 'b' })
    const readiness = new Readiness()
    const running = watchStreams({ redis, metrics, readiness, streams: ['one', 'empty'], everyMs: 20 }).run(stop.signal)

    while (readiness.lagSeconds === undefined) await delay(10)
    await delay(50)
    const text = await metrics.render()
    const value = (name: string, stream: string) => parseMetric(text, name, { stream })[0]
    expect(value('sluice_stream_entries', 'one')).toBe(3)
    expect(value('sluice_stream_pending_entries', 'one')).toBe(2)
    expect(value('sluice_stream_dead_letter_entries', 'one')).toBe(1)
    expect(value('sluice_stream_bytes', 'one')).toBeGreaterThan(100)
    expect(value('sluice_stream_lag_seconds', 'one')).toBeCloseTo(1800, -2)
    expect(value('sluice_stream_lag_seconds', 'empty')).toBe(0)
    expect(readiness.lagSeconds).toBeCloseTo(1800, -2)

    stop.abort()
    await running
  } finally {
    stop.abort()
    redis.destroy()
  }
})

test('dead letters are counted without a look at each: every indexer does it every ten seconds', async () => {
  await using server = await startRedis()
  const stop = new AbortController()
  const admin = await connectRedis({ url: server.url(), name: 'admin' })
  // Only a script goes through them.
  await admin.sendCommand(['ACL', 'SETUSER', 'watch', 'on', '>pw', '~*', '+@all', '-@scripting'])
  const redis = await connectRedis({ url: server.url().replace('redis://', 'redis://watch:pw@'), name: 'watch' })
  try {
    for (let i = 0; i < 3; i++) await redis.xAdd('one_dlq', '*', { reason: 'not-json' })
    await redis.xAdd('one', '*', { event: '{}' })
    const metrics = new Metrics({ role: 'indexer', build: 'b' })
    const readiness = new Readiness()
    const running = watchStreams({ redis, metrics, readiness, streams: ['one'], everyMs: 20 }).run(stop.signal)
    const value = async (name: string) => parseMetric(await metrics.render(), name, { stream: 'one' })[0]
    await expect.poll(async () => readiness.lagSeconds).toBeDefined()
    expect(await value('sluice_stream_dead_letter_entries')).toBe(3)
    expect(await value('sluice_stream_entries')).toBe(1)
    stop.abort()
    await running
  } finally {
    stop.abort()
    redis.destroy()
    admin.destroy()
  }
})

test('a stream that may not be looked at is a failure that names the permission, not a lag of 0', async () => {
  await using server = await startRedis()
  await using admin = await connect(server.url())
  await admin.sendCommand(['ACL', 'SETUSER', 'watch', 'on', '>pw', '~*', '+@all', '-memory'])
  await admin.xAdd('one', HOUR_AGO, { event: '{}' })
  await using redis = await connect(server.url().replace('redis://', 'redis://watch:pw@'))
  const metrics = new Metrics({ role: 'indexer', build: 'b' })
  const readiness = new Readiness()
  const running = watchStreams({ redis, metrics, readiness, streams: ['one'] }).run(AbortSignal.timeout(10_000))
  await expect(running).rejects.toThrow(/NOPERM.*memory/)
  expect(readiness.lagSeconds).toBeUndefined()
})

/** Each with how often Redis has refused since. */
const REFUSALS: [name: string, induce: (redis: Redis) => Promise<unknown>, refused: RegExp][] = [
  [
    'Redis answers TIME and nothing about a key, as while it loads',
    async (redis) => {
      await redis.configSet('replica-serve-stale-data', 'no')
      await redis.sendCommand(['REPLICAOF', '127.0.0.1', '1'])
    },
    /cmdstat_exists:.*rejected_calls=(\d+)/,
  ],
  [
    'its dead letters are a key of another type',
    async (redis) => redis.set('one_dlq', 'of another program'),
    /cmdstat_xlen:.*failed_calls=(\d+)/,
  ],
]

test.for(REFUSALS)('the last figures of a stream stay while %s', async ([, induce, refused]) => {
  await using server = await startRedis()
  const stop = new AbortController()
  await using redis = await connect(server.url())
  await redis.xAdd('one', HOUR_AGO, { event: '{}' })
  const metrics = new Metrics({ role: 'indexer', build: 'b' })
  const readiness = new Readiness()
  const running = watchStreams({ redis, metrics, readiness, streams: ['one'], everyMs: 20 }).run(stop.signal)
  try {
    await expect.poll(() => readiness.lagSeconds).toBeCloseTo(3600, -2)
    await induce(redis)
    await expect.poll(async () => Number(refused.exec(await redis.info('commandstats'))?.[1])).toBeGreaterThan(2)
    expect(readiness.lagSeconds).toBeCloseTo(3600, -2)
    expect(parseMetric(await metrics.render(), 'sluice_stream_entries', { stream: 'one' })).toEqual([1])
  } finally {
    stop.abort()
    await running
  }
})

const HOUR_AGO = `${Date.now() - 3_600_000}-1`

async function connect(url: string): Promise<Redis & AsyncDisposable> {
  const redis = await connectRedis({ url, name: 'watch' })
  return Object.assign(redis, { [Symbol.asyncDispose]: async () => redis.destroy() })
}
