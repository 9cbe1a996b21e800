import { Readiness } from '@sluice/runtime/readiness.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { watchQueue } from './queue-lag.ts'

const minutesAgo = (minutes: number): string => `${Date.now() - minutes * 60_000}-1`

test('the age of the oldest repository that is not acked is told in /ready, of both streams the worst, through outages', async () => {
  await using server = await startRedis()
  const redis = await connectRedis({ url: server.url(), name: 'watch' })
  const stop = new AbortController()
  const readiness = new Readiness()
  const running = watchQueue({ redis, readiness, streams: ['first', 'normal'], everyMs: 20 }, stop.signal)
  try {
    await expect.poll(() => readiness.lagSeconds).toBe(0)
    await redis.xGroupCreate('normal', 'group', '0', { MKSTREAM: true })
    for (const minutes of [30, 20]) await redis.xAdd('normal', minutesAgo(minutes), { repo: '{}' })
    await redis.xReadGroup('group', 'one', { key: 'normal', id: '>' }, { COUNT: 1 })
    await expect.poll(() => readiness.lagSeconds ?? 0).toBeCloseTo(1_800, -2)

    await server.kill()
    await server.start()
    await expect.poll(() => redis.ping().catch(() => 'away'), { timeout: 10_000 }).toBe('PONG')
    const [first] = (await redis.xRange('normal', '-', '+'))!
    await redis.xAck('normal', 'group', first!.id)
    await expect.poll(() => readiness.lagSeconds ?? 0, { timeout: 10_000 }).toBeCloseTo(1_200, -2)
  } finally {
    stop.abort()
    await running
    redis.destroy()
  }
})
