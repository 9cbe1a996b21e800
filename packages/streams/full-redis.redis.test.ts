import { expect } from '@sluice/sandbox/fixtures.ts'
import { redisVersion, startRedis } from '@sluice/sandbox/redis.ts'
import type { Redis } from './connection.ts'
import { countDeadLetters } from './dead-letters.ts'
import { listIncidents } from './incidents.ts'
import { eventsFrom, numbers, sorted } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'

const { stream, group } = address
const BATCH = 50
const CURSOR = 's:cursor:relay'

async function refusesWrites(redis: Redis): Promise<boolean> {
  return redis.set('probe', 'x').then(
    () => false,
    (error: Error) => error.message.startsWith('OOM'),
  )
}

test('at maxmemory, whoever may have filled it, consumers start, reclaim, bury and drain; then producers go on', async ({
  tools,
}) => {
  await using server = await startRedis({ maxmemory: '20mb' })
  const redis = await tools.connect(server.url())
  await redis.xAdd(stream, '*', { event: 'poison' })
  const filler = 'x'.repeat(2_000)
  const retries: string[] = []
  // Its own budget does not hold it back here.
  const producer = tools.producer(await tools.connect(server.url()), {
    memoryRatioMax: 1e9,
    onRetry: ({ error }) => void retries.push(error.name),
  })
  let appended = 0
  const stop = new AbortController()
  const pouring = (async () => {
    for (let from: string | null = null; !stop.signal.aborted; from = String(appended)) {
      const events = eventsFrom(appended, BATCH).map((event) => ({ ...event, filler }))
      await producer.append(events, never, { cursor: { key: CURSOR, from, to: String(appended + BATCH) } })
      appended += BATCH
    }
  })()
  await expect.poll(() => appended, { timeout: 20_000 }).toBeGreaterThan(1_000)
  await redis.xGroupCreate(stream, group, '0')
  await redis.xReadGroup(group, 'dead', { key: stream, id: '>' }, { COUNT: 40 })
  await expect.poll(() => retries, { timeout: 20_000 }).toContain('RedisFullError')
  // Less than an empty Redis needs: it stays full however much is drained.
  await redis.configSet('maxmemory', '500kb')
  expect(await refusesWrites(redis)).toBe(true)
  // The trap that ours must not fall into: full, Redis 7.0 refuses every transaction. Redis 8 and Valkey 9 do not.
  if (redisVersion().startsWith('7.0.')) {
    await expect(redis.multi().xAck(stream, group, '1-1').exec()).rejects.toThrow()
  }

  const full = appended
  const { acked } = tools.consume({ redis, reader: await tools.connect(server.url()) })
  await expect.poll(() => redis.xLen(stream), { timeout: 30_000 }).toBe(0)
  expect(sorted(acked)).toEqual(numbers(full))
  expect((await redis.xPending(stream, group)).pending).toBe(0)
  expect(await countDeadLetters(redis, stream)).toEqual({ total: 1, reasons: { 'not-json': 1 } })
  expect(appended).toBe(full)
  expect(await refusesWrites(redis)).toBe(true)
  await expect
    .poll(async () => (await listIncidents(redis, 10)).map(({ kind }) => kind).toSorted(), { timeout: 5_000 })
    .toEqual(['consumer-died', 'dead-letters'])

  await redis.configSet('maxmemory', '20mb')
  await expect.poll(() => appended, { timeout: 20_000 }).toBeGreaterThan(full + 1_000)
  stop.abort()
  await pouring
  await expect.poll(() => acked.length, { timeout: 20_000 }).toBe(appended)
  expect(sorted(acked)).toEqual(numbers(appended))
  expect(await redis.get(CURSOR)).toBe(String(appended))
})
