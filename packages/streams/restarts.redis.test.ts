import { setTimeout as delay } from 'node:timers/promises'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { CursorConflictError, type Producer } from './producer.ts'
import { scripts } from './scripts.ts'
import { eventsFrom, numbers, sorted, type TestEvent } from './testing/events.ts'
import { ackAll, address, never, test } from './testing/fixtures.ts'
import { FaultyProxy } from './testing/proxy.ts'

const { stream } = address
const CURSOR = 's:cursor:relay'
const BATCH = 20

/** Appends as an ingester does: the cursor says what comes next, and a Redis that came back older is believed. */
async function pour(producer: Producer<TestEvent>, events: number, onBatch: (n: number) => unknown) {
  let conflicts = 0
  for (let from: string | null = null; Number(from) < events;) {
    const first: number = Number(from)
    try {
      const to: string = String(first + BATCH)
      await producer.append(eventsFrom(first, BATCH), never, { cursor: { key: CURSOR, from, to } })
      from = to
      await onBatch(first)
    } catch (error) {
      if (!(error instanceof CursorConflictError)) throw error
      conflicts += 1
      from = error.found
    }
  }
  return conflicts
}

const backoff = { baseMs: 10, capMs: 50, healthyAfterMs: 1_000 }

test('Redis is killed under load, again and again: its AOF brings it back, and every event is processed', async ({
  tools,
}) => {
  await using server = await startRedis()
  const redis = await tools.connect(server.url())
  const retries: string[] = []
  const onRetry = ({ error }: { error: Error }) => void retries.push(error.name)
  const producer = tools.producer(await tools.connect(server.url()), { backoff, onRetry })
  const acked: number[] = []
  const reader = await tools.connect(server.url())
  const limits = { batchEvents: 40 }
  tools.consume(
    { redis, reader, backoff, limits },
    ackAll(acked, () => delay(5)),
  )
  const all = 6_000
  let [killed, leftBehind] = [0, 0]
  const pouring = pour(producer, all, () => delay(1))
  while (killed < 3) {
    const before = acked.length
    await expect.poll(() => acked.length, { timeout: 10_000 }).toBeGreaterThan(before + 100)
    await server.kill()
    killed += 1
    await server.start()
    const again = await tools.connect(server.url())
    leftBehind += await again.xLen(stream)
  }
  await pouring
  expect(retries.length, 'the producer noticed').toBeGreaterThanOrEqual(1)
  await expect.poll(() => redis.xLen(stream), { timeout: 20_000 }).toBe(0)
  expect(sorted(new Set(acked))).toEqual(numbers(all))
  expect(await redis.get(CURSOR)).toBe(String(all))
  expect(leftBehind, 'it was not empty when it died').toBeGreaterThan(0)
})

test('connections cut while appending, in the middle of a request or before its answer: each event is stored once', async ({
  redisUrl,
  tools,
}) => {
  await using proxy = await FaultyProxy.start(redisUrl)
  const redis = await tools.connect(proxy.url(redisUrl.slice(redisUrl.lastIndexOf('/') + 1)))
  const direct = await tools.connect(redisUrl)
  const retries: string[] = []
  const producer = tools.producer(redis, { backoff, onRetry: ({ error }) => void retries.push(error.name) })
  const fault = (first: number) => {
    if (first % (10 * BATCH) === 0) proxy.loseAnswers(scripts.append.sha)
    if (first % (10 * BATCH) === 5 * BATCH) proxy.cutInRequest(scripts.append.sha)
  }
  const conflicts = await pour(producer, 100 * BATCH, fault)
  expect(proxy.cuts).toBe(20)
  expect(retries.length).toBeGreaterThanOrEqual(20)
  expect(conflicts).toBe(0)
  const stored = (await direct.xRange(stream, '-', '+')) ?? []
  expect(stored.map(({ message }) => (JSON.parse(message.event!) as TestEvent).n)).toEqual(numbers(100 * BATCH))
})

test('after a failover by name, with the old primary up as a replica, everybody goes over to the new one', async ({
  tools,
}) => {
  await using old = await startRedis()
  await using promoted = await startRedis()
  const [a, b] = [await tools.connect(old.url()), await tools.connect(promoted.url())]
  await using proxy = await FaultyProxy.start(old.url())
  const byName = async () => tools.connect(proxy.url(), { limits: { pingMs: 100 } })
  const producer = tools.producer(await byName(), { backoff })
  const troubles: string[] = []
  const observer = { trouble: ({ message }: Error) => void troubles.push(message) }
  const one = tools.consume({ redis: await byName(), reader: await byName(), backoff, observer })
  await producer.append(eventsFrom(0, 10), never)
  await expect.poll(() => one.acked.length, { timeout: 10_000 }).toBe(10)
  const follow = (url: string): string[] => ['REPLICAOF', '127.0.0.1', new URL(url).port]
  await b.sendCommand(follow(old.url()))
  await expect.poll(() => b.info('replication'), { timeout: 20_000 }).toContain('master_link_status:up')

  await b.sendCommand(['REPLICAOF', 'NO', 'ONE'])
  await a.sendCommand(follow(promoted.url()))
  await expect.poll(() => troubles.join(), { timeout: 10_000, message: 'it is felt' }).toContain('READONLY')
  proxy.leadTo(promoted.url())
  await producer.append(eventsFrom(10, 10), never)
  await expect.poll(() => sorted(one.acked), { timeout: 20_000 }).toEqual(numbers(20))
  expect(await b.info('replication')).toContain('role:master')
})
