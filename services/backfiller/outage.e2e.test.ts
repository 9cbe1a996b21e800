/** What an operator reads of a backfiller while Redis is away. */
import { startDaemon, type Daemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis, type Redis } from '@sluice/sandbox/redis.ts'
import { priorityStream } from '@sluice/streams/backfill-queue.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { leaseKey } from '@sluice/streams/lease.ts'
import { QUEUE } from './testing/queue-view.ts'

interface Line {
  level: string
  msg: string
  error?: string
  err?: object
}

const start = (redis: Redis, until: 'ready' | 'alive'): Promise<Daemon> => {
  const env = { REDIS_URL: redis.url(), BACKFILLER_CONSUMER: 'one', PLC_URL: 'http://127.0.0.1:1' }
  return startDaemon({ role: 'backfiller', env, until })
}

const linesOf = (daemon: Daemon): Line[] => daemon.logLines.map((line) => JSON.parse(line) as Line)
const readyOf = async (daemon: Daemon): Promise<number> => (await daemon.get('/ready')).status

/** Until both of its consumers hold their names. */
async function working(redis: Redis): Promise<void> {
  const client = await connectRedis({ url: redis.url(), name: 'test' })
  const address = { group: 'repo_backfill_group', consumer: 'one' }
  const keys = [QUEUE, priorityStream(QUEUE)].map((stream) => leaseKey({ stream, ...address }))
  try {
    await expect.poll(() => client.exists(keys), { timeout: 60_000 }).toBe(2)
  } finally {
    client.destroy()
  }
}

test('an outage of Redis is told in plain lines, each with the wait before the next try, and none with a stack', async () => {
  await using redis = await startRedis()
  await using daemon = await start(redis, 'ready')
  await working(redis)
  await redis.kill()
  const ofPermits = (): Line | undefined => linesOf(daemon).find(({ msg }) => msg.startsWith('renewing permits'))
  await expect.poll(ofPermits, { timeout: 60_000 }).toBeDefined()
  expect(await readyOf(daemon), 'Redis is away').toBe(503)
  // Each consumer blocks for itself: its connection may be in trouble while the others are not.
  for (const stream of [QUEUE, priorityStream(QUEUE)]) {
    const blocked = async () => (await daemon.get('/ready')).body.includes(`"redis ${stream}: `)
    await expect.poll(blocked, { timeout: 60_000 }).toBe(true)
  }
  expect(ofPermits()).toMatchObject({
    level: 'warn',
    msg: 'renewing permits failed, next try in 5.0 s',
    error: expect.stringMatching(/^TransientError: Redis: /) as string,
  })
  expect(linesOf(daemon).filter(({ err }) => err !== undefined)).toEqual([])
  expect(daemon.logLines.filter((line) => line.includes('\\n    at '))).toEqual([])

  await redis.start()
  await expect.poll(() => readyOf(daemon), { timeout: 60_000 }).toBe(200)
})

test('a Redis that was emptied is counted, as a lost group and as an incident, and the lag is told', async () => {
  await using redis = await startRedis()
  await using daemon = await start(redis, 'ready')
  await working(redis)
  const lagSeconds = async () => (JSON.parse((await daemon.get('/ready')).body) as { lagSeconds?: number }).lagSeconds
  await expect.poll(lagSeconds, { timeout: 60_000 }).toBe(0)
  const lost = (stream: string) => daemon.metric('sluice_stream_groups_lost_total', { stream })
  const streams = [QUEUE, priorityStream(QUEUE)]
  expect(await Promise.all(streams.map(lost))).toEqual([0, 0])
  expect(await daemon.metric('sluice_incidents_total', { kind: 'group-lost' })).toBe(0)
  const client = await connectRedis({ url: redis.url(), name: 'test' })
  await client.flushAll()
  client.destroy()
  for (const stream of streams) await expect.poll(() => lost(stream), { timeout: 60_000 }).toBe(1)
  const incidents = () => daemon.metric('sluice_incidents_total', { kind: 'group-lost' })
  await expect.poll(incidents, { timeout: 60_000 }).toBe(2)
})

test('started while Redis is away it is not ready, and says why in its log too, until Redis is there', async () => {
  await using redis = await startRedis()
  await redis.kill()
  await using daemon = await start(redis, 'alive')
  expect(await readyOf(daemon)).toBe(503)
  const refused = (): Line | undefined => linesOf(daemon).find(({ error }) => error?.includes('ECONNREFUSED'))
  await expect.poll(refused).toMatchObject({
    level: 'warn',
    msg: 'Redis (main): connection lost or refused, trying again',
  })
  await redis.start()
  await expect.poll(() => readyOf(daemon), { timeout: 60_000 }).toBe(200)
  await working(redis)
})
