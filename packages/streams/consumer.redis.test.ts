import { once } from 'node:events'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { classifyRedisError, NoGroupError, type Redis } from './connection.ts'
import type { Batch } from './consumer.ts'
import { readNew, retireConsumers } from './entries.ts'
import { listIncidents } from './incidents.ts'
import { claim, listPending, touch } from './pending.ts'
import { runScript, scripts } from './scripts.ts'
import { eventsFrom, numbers, sorted, type TestEvent } from './testing/events.ts'
import { ackAll, address, never, test } from './testing/fixtures.ts'
import { FaultyProxy } from './testing/proxy.ts'

const { stream, group } = address
const databaseOf = (url: string): string => url.slice(url.lastIndexOf('/') + 1)

function rethrowClassified(error: unknown): never {
  throw classifyRedisError(error)
}

async function pendingOf(redis: Redis): Promise<number> {
  return (await redis.xPending(stream, group)).pending
}

test('every entry is handed out once, and the stream is empty in the end', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const reader = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 1_000), never)
  const { acked } = tools.consume({ redis, reader })
  await expect.poll(() => acked.length, { timeout: 10_000 }).toBe(1_000)
  expect(sorted(acked)).toEqual(numbers(1_000))
  expect(await redis.xLen(stream)).toBe(0)
  expect(await pendingOf(redis)).toBe(0)
})

test('a group that is made late begins at the first entry of the stream', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 5), never)
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl) })
  await expect.poll(() => sorted(acked)).toEqual(numbers(5))
})

test('events of one key keep their order and never run side by side; keys do not wait for each other', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const events = eventsFrom(0, 600, 13)
  await tools.producer(redis).append(events, never)
  const seen = new Map<string, number[]>()
  const inWork = new Set<string>()
  let sideBySide = 0
  const work = async (batch: Batch<TestEvent>) => {
    const keys = new Set(batch.events.map(({ key }) => key))
    for (const key of keys) {
      expect(inWork.has(key), key).toBe(false)
      inWork.add(key)
    }
    sideBySide = Math.max(sideBySide, inWork.size - keys.size)
    await new Promise((resolve) => setTimeout(resolve, 1))
    for (const { key, n } of batch.events) seen.set(key, [...(seen.get(key) ?? []), n])
    for (const key of keys) inWork.delete(key)
  }
  const acked: number[] = []
  tools.consume({ redis, reader: await tools.connect(redisUrl), limits: { batchEvents: 20 } }, ackAll(acked, work), 4)
  await expect.poll(() => acked.length, { timeout: 10_000 }).toBe(600)
  for (const [key, order] of seen) {
    expect(order, key).toEqual(events.filter((event) => event.key === key).map(({ n }) => n))
  }
  expect(sideBySide).toBeGreaterThan(0)
})

test('a batch takes no more than its share of a full one, as it is when the batch is taken', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 100, 1), never)
  let share = 0.1
  const sizes: number[] = []
  const held = tools.consume(
    { redis, reader: await tools.connect(redisUrl), limits: { batchEvents: 50 }, batchShare: () => share },
    async (batches) => {
      for await (const batch of batches) {
        // By now all of them wait in the lane.
        await expect.poll(async () => (await pendingOf(redis)) + sizes.reduce((sum, n) => sum + n, 0)).toBe(100)
        sizes.push(batch.events.length)
        if (sizes.length === 4) share = 1
        await batch.ack()
      }
    },
  )
  await expect.poll(() => redis.xLen(stream)).toBe(0)
  await held.stop()
  expect(sizes.slice(1)).toEqual([5, 5, 5, 50, 100 - sizes[0]! - 65])
})

test('D2 nothing is acked before `ack`; a worker that fails leaves its batch pending', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 10), never)
  const running = tools.consume({ redis, reader: await tools.connect(redisUrl) }, async (batches) => {
    for await (const batch of batches) {
      expect(await redis.xLen(stream)).toBe(10)
      throw new TransientError(`no database for ${batch.events.length}`)
    }
  })
  await expect(running.ended).rejects.toThrow('no database')
  expect(await redis.xLen(stream)).toBe(10)
  expect(await pendingOf(redis)).toBe(10)

  const again = tools.consume({ redis, reader: await tools.connect(redisUrl) })
  await expect.poll(() => sorted(again.acked)).toEqual(numbers(10))
})

test('the same consumer may run again after a failure', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 3), never)
  const options = { redis, reader: await tools.connect(redisUrl), address, key: ({ key }: TestEvent) => key }
  const { consumer, ended } = tools.consume(options, async (batches) => {
    for await (const _ of batches) throw new TransientError('not now')
  })
  await expect(ended).rejects.toThrow('not now')
  const acked: number[] = []
  const stop = new AbortController()
  const second = consumer.run(stop.signal, 2, ackAll(acked))
  await expect.poll(() => sorted(acked)).toEqual(numbers(3))
  stop.abort()
  await second
})

test('a batch says how often its first entry was handed out, to whomever', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const reader = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 1), never)
  const deliveries: number[] = []
  for (const consumer of ['one', 'one', 'two']) {
    const failing = tools.consume({ redis, reader, address: { ...address, consumer } }, async (batches) => {
      for await (const batch of batches) {
        deliveries.push(batch.deliveries)
        throw new TransientError('not now')
      }
    })
    await expect(failing.ended).rejects.toThrow('not now')
  }
  expect(deliveries).toEqual([1, 2, 3])
})

test('a worker that ends before its lane fails the run instead of starving the lane', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const running = tools.consume({ redis, reader: await tools.connect(redisUrl) }, async () => {})
  await expect(running.ended).rejects.toThrow(FatalError)
})

test('D9, D2 after the signal the batch in hand is finished and acked; what was not started stays pending', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 100, 1), never)
  const begun = new AbortController()
  const goOn = new AbortController()
  const acked: number[] = []
  const wait = async () => {
    begun.abort()
    if (!goOn.signal.aborted) await once(goOn.signal, 'abort')
  }
  const limits = { batchEvents: 10 }
  const running = tools.consume({ redis, reader: await tools.connect(redisUrl), limits }, ackAll(acked, wait))
  await once(begun.signal, 'abort')
  const stopping = running.stop()
  goOn.abort()
  await stopping
  expect(acked).toEqual(numbers(10))
  expect(await redis.xLen(stream)).toBe(90)
  const next = tools.consume({ redis, reader: await tools.connect(redisUrl) })
  await expect.poll(() => next.acked).toEqual(numbers(90, 10))
})

test('the drain ends when Redis is away: what could not be acked is handed out again', async ({ tools }) => {
  await using server = await startRedis()
  const redis = await tools.connect(server.url())
  await tools.producer(redis).append(eventsFrom(0, 5, 1), never)
  const trouble: string[] = []
  const worked: number[] = []
  const observer = { trouble: (error: Error) => void trouble.push(error.message) }
  const begun = new AbortController()
  const down = new AbortController()
  const running = tools.consume(
    { redis, reader: await tools.connect(server.url()), observer, limits: { finishMs: 500 } },
    ackAll([], async ({ events }) => {
      begun.abort()
      if (!down.signal.aborted) await once(down.signal, 'abort')
      worked.push(...events.map(({ n }) => n))
    }),
  )
  await once(begun.signal, 'abort')
  await server.kill()
  const stopping = running.stop()
  down.abort()
  await stopping
  expect(worked).toEqual(numbers(5))
  expect(trouble.length).toBeGreaterThan(0)
  await server.start()
  await expect.poll(() => redis.isReady).toBe(true)
  const next = tools.consume({ redis, reader: await tools.connect(server.url()) })
  await expect.poll(() => next.acked, { timeout: 5_000 }).toEqual(numbers(5))
})

test('the drain does not wait for the answer of a Redis that says nothing', async ({ redisUrl, tools }) => {
  await using proxy = await FaultyProxy.start(redisUrl)
  const redis = await tools.connect(proxy.url(databaseOf(redisUrl)))
  const direct = await tools.connect(redisUrl)
  await tools.producer(direct).append(eventsFrom(0, 5), never)
  const running = tools.consume(
    { redis, reader: await tools.connect(redisUrl), limits: { finishMs: 300 } },
    ackAll([], () => proxy.beSilent(true)),
  )
  await expect.poll(() => proxy.swallowed).toBeGreaterThan(0)
  await running.stop()
  expect(await direct.xLen(stream)).toBe(5)
})

test('an answer to a read that gets lost is read again at once, in order, before anything newer', async ({
  redisUrl,
  tools,
}) => {
  await using proxy = await FaultyProxy.start(redisUrl)
  const redis = await tools.connect(redisUrl)
  const reader = await tools.connect(proxy.url(databaseOf(redisUrl)))
  const from: string[] = []
  const observer = { redelivered: (entries: number, how: string) => void from.push(`${how} ${entries}`) }
  // No takeover within this test: what is lost must come back without one.
  const limits = { readEntries: 10, reclaimIdleMs: 3_600_000 }
  const { acked } = tools.consume({ redis, reader, observer, limits }, undefined, 1)
  await expect.poll(async () => (await redis.exists(stream)) && (await redis.xInfoGroups(stream)).length).toBe(1)
  proxy.loseAnswers('XREADGROUP')
  await expect
    .poll(() => proxy.cuts, { timeout: 3_000 })
    .toBe(1)
    .catch(() => {})
  await tools.producer(redis).append(eventsFrom(0, 100, 1), never)
  await expect.poll(() => acked.length, { timeout: 10_000 }).toBe(100)
  proxy.loseAnswers('XREADGROUP')
  const cuts = proxy.cuts
  await tools.producer(redis).append(eventsFrom(100, 100, 1), never)
  await expect.poll(() => acked.length, { timeout: 10_000 }).toBe(200)
  expect(proxy.cuts).toBe(cuts + 1)
  expect(from).toContain('own-pending 10')
  expect(acked).toEqual(numbers(200))
})

test('entries that a cut connection was still given afterwards come back too', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 31), never)
  const busy = new AbortController()
  const goOn = new AbortController()
  const acked: number[] = []
  const work = ackAll(acked, async () => {
    busy.abort()
    if (!goOn.signal.aborted) await once(goOn.signal, 'abort')
  })
  const from: string[] = []
  const observer = { redelivered: (entries: number, how: string) => void from.push(`${how} ${entries}`) }
  const limits = { heldEntries: 1, reclaimIdleMs: 2_000 }
  tools.consume({ redis, reader: await tools.connect(redisUrl), observer, limits }, work)
  await once(busy.signal, 'abort')
  // As the server does for a blocked client whose connection it does not know to be cut.
  await redis.xReadGroup(group, address.consumer, { key: stream, id: '>' }, { COUNT: 3 })
  goOn.abort()
  await expect.poll(() => sorted(acked), { timeout: 10_000 }).toEqual(numbers(31))
  expect(from).toContain('own-pending 3')
})

test('D2 an ack whose answer gets lost is acked once', async ({ redisUrl, tools }) => {
  await using proxy = await FaultyProxy.start(redisUrl)
  const redis = await tools.connect(proxy.url(databaseOf(redisUrl)))
  const direct = await tools.connect(redisUrl)
  await tools.producer(direct).append(eventsFrom(0, 20, 1), never)
  await direct.scriptLoad(scripts.ack.text)
  proxy.loseAnswers(scripts.ack.sha)
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl) })
  await expect.poll(() => acked, { timeout: 5_000 }).toEqual(numbers(20))
  expect(proxy.cuts).toBe(1)
  expect(await direct.xLen(stream)).toBe(0)
})

test('D6 a flushed Redis: the group is made again while reading, the loss is an incident, reading goes on', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  let lost = 0
  const counted: string[] = []
  const observer = { groupLost: () => void lost++, incident: (kind: string) => void counted.push(kind) }
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl), observer })
  await tools.producer(redis).append(eventsFrom(0, 5), never)
  await expect.poll(() => acked.length).toBe(5)
  await redis.flushDb()
  await tools.producer(redis).append(eventsFrom(5, 5), never)
  await expect.poll(() => sorted(acked), { timeout: 10_000 }).toEqual(numbers(10))
  expect(lost).toBe(1)
  await expect.poll(async () => (await listIncidents(redis, 10)).map(({ kind }) => kind)).toEqual(['group-lost'])
  const [incident] = await listIncidents(redis, 1)
  expect(incident).toMatchObject({ role: 'g one', what: expect.stringContaining('s or its group g') as string })
  await expect.poll(() => counted).toEqual(['group-lost'])
})

test('D6 whatever is asked of a stream that vanished, the answer is that it vanished', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const retireNow = async () => runScript(redis, scripts.retire, [stream], [group, 'two']).catch(rethrowClassified)
  for (const ask of [
    async () => readNew(redis, address, 1, 10),
    async () => listPending(redis, address, { idleMs: 0, count: 1 }),
    async () => claim(redis, address, 0, ['1-1']),
    async () => touch(redis, address, 0, ['1-1']),
    async () => retireConsumers(redis, address, 0),
    retireNow,
  ]) {
    await expect(ask(), String(ask)).rejects.toThrow(NoGroupError)
    await redis.xAdd(stream, '*', { event: 'x' })
    await expect(ask(), String(ask)).rejects.toThrow(NoGroupError)
    await redis.del(stream)
  }
})

test('what is held is bounded in bytes, although Redis counts entries', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const filler = 'x'.repeat(100_000)
  const large = eventsFrom(0, 200).map((event) => ({ ...event, filler }))
  const producer = tools.producer(redis)
  for (let i = 0; i < large.length; i += 20) await producer.append(large.slice(i, i + 20), never)
  const goOn = new AbortController()
  // Whatever fails here: a consumer that waits would not end.
  using _ = { [Symbol.dispose]: () => goOn.abort() }
  const wait = async () => {
    if (!goOn.signal.aborted) await once(goOn.signal, 'abort')
  }
  const acked: number[] = []
  // No whole number of reads is as large as the limit: whoever goes by the number of entries oversteps it.
  const limits = { heldBytes: 2_000_000, readEntries: 7, batchBytes: 300_000 }
  const { consumer } = tools.consume({ redis, reader: await tools.connect(redisUrl), limits }, ackAll(acked, wait))
  await expect.poll(() => consumer.heldBytes).toBeGreaterThan(1_900_000)
  await new Promise((resolve) => setTimeout(resolve, 300))
  expect(consumer.heldBytes).toBeLessThan(2_000_000 + 1 * 100_100)
  goOn.abort()
  await expect.poll(() => acked.length, { timeout: 10_000 }).toBe(200)
})
