import { setTimeout as delay } from 'node:timers/promises'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import type { HeldBack } from './high-water.ts'
import type { Redis } from './connection.ts'
import type { Producer } from './producer.ts'
import { eventsFrom, type TestEvent } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'

const { stream } = address
const BATCH = 50
/** How often a producer that waits looks. */
const POLL_MS = 200

/** Appends batch after batch; says how many of them are stored. */
function pour(producer: Producer<TestEvent>, batches: number) {
  const poured = { batches: 0, signal: new AbortController(), done: Promise.resolve() }
  const all = async () => {
    for (let i = 0; i < batches; i++) {
      await producer.append(eventsFrom(i * BATCH, BATCH), poured.signal.signal)
      poured.batches += 1
    }
  }
  poured.done = all()
  poured.done.catch(() => {})
  return poured
}

async function drainTo(redis: Redis, depth: number): Promise<void> {
  await redis.sendCommand(['XTRIM', stream, 'MAXLEN', '=', String(depth)])
}

test('at the mark producers wait, having overshot by at most one batch each, and go on below the low mark only', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const changes: (HeldBack | undefined)[] = []
  const producers = [0, 1, 2].map(() =>
    tools.producer(redis, { entriesMax: 1_000, onChange: (held) => void changes.push(held) }),
  )
  const poured = producers.map((producer) => pour(producer, 1_000))
  await expect.poll(() => changes.filter(Boolean).length, { timeout: 5_000 }).toBe(3)
  const depth = await redis.xLen(stream)
  expect(depth).toBeGreaterThanOrEqual(1_000)
  expect(depth).toBeLessThanOrEqual(1_000 + 3 * BATCH)
  expect(changes[0]).toMatchObject({ by: 'entries' })
  expect(changes[0]!.detail).toContain('1000')

  await drainTo(redis, 850)
  await delay(3 * POLL_MS)
  expect(await redis.xLen(stream), 'between the marks nothing moves').toBe(850)
  await drainTo(redis, 799)
  await expect.poll(() => changes.some((held) => !held), { timeout: 5_000 }).toBe(true)
  await expect.poll(() => redis.xLen(stream), { timeout: 5_000 }).toBeGreaterThanOrEqual(1_000)
  expect(await redis.xLen(stream)).toBeLessThanOrEqual(1_000 + 3 * BATCH)
  for (const { signal, done } of poured) {
    signal.abort()
    await expect(done).rejects.toThrow('aborted')
  }
})

test('a producer held back stores nothing while it waits, and cursors without entries still move', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const producer = tools.producer(redis, { entriesMax: 10 })
  await producer.append(eventsFrom(0, 10), never)
  const { signal, done } = pour(producer, 1)
  await producer.append([], never, { cursor: { key: 'cursor', from: null, to: '10' } })
  expect(await redis.get('cursor')).toBe('10')
  expect(await redis.xLen(stream)).toBe(10)
  signal.abort()
  await expect(done).rejects.toThrow('aborted')
})

test('the memory mark holds producers back well below maxmemory, and lets them go on when there is room', async ({
  tools,
}) => {
  await using server = await startRedis({ maxmemory: '20mb' })
  const redis = await tools.connect(server.url())
  const changes: (HeldBack | undefined)[] = []
  const retries: string[] = []
  const producer = tools.producer(redis, {
    memoryRatioMax: 0.5,
    onChange: (held) => void changes.push(held),
    onRetry: ({ error }) => void retries.push(error.message),
  })
  // As fast as it can, and in larger pieces than the entry mark would notice.
  const filler = 'x'.repeat(6_000)
  const poured = { batches: 0 }
  const stop = new AbortController()
  const pouring = (async () => {
    for (;;) {
      await producer.append(
        eventsFrom(0, BATCH).map((event) => ({ ...event, filler })),
        stop.signal,
      )
      poured.batches += 1
    }
  })()
  pouring.catch(() => {})
  await expect.poll(() => changes.length, { timeout: 20_000 }).toBe(1)
  expect(changes[0]).toMatchObject({ by: 'memory' })
  const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1])
  // About half of it: what the last append took is estimated, and freed buffers count.
  expect(used).toBeGreaterThan(9 * 2 ** 20)
  expect(used).toBeLessThan(16 * 2 ** 20)
  expect(retries).toEqual([])
  await redis.del(stream)
  await expect.poll(() => changes.length).toBeGreaterThanOrEqual(2)
  expect(changes[1]).toBeUndefined()
  stop.abort()
  await expect(pouring).rejects.toThrow('aborted')
})
