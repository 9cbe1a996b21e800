import { setTimeout as delay } from 'node:timers/promises'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { listIncidents } from './incidents.ts'
import { leaseKey } from './lease.ts'
import { eventsFrom, numbers, sorted } from './testing/events.ts'
import { ackAll, address, never, test } from './testing/fixtures.ts'
import { processed, startConsumerProcess } from './testing/processes.ts'

const { stream, group } = address

test('after a kill -9 the same name goes on with what was in hand, and nothing is lost', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 1_000), never)
  const options = { url: redisUrl, consumer: 'one', workMs: 20, limits: { batchEvents: 10 } }
  const first = await startConsumerProcess(options)
  await first.waitUntil('working', async () => (await redis.lLen('processed')) > 100)
  await first.kill('SIGKILL')
  expect((await redis.xPending(stream, group)).pending).toBeGreaterThan(0)
  const left = await redis.xLen(stream)
  expect(left).toBeGreaterThan(0)
  const second = await startConsumerProcess(options)
  await second.waitUntil('done', async () => (await redis.xLen(stream)) === 0)
  expect((await second.stop()).code).toBe(0)
  const done = await processed(redis)
  expect(sorted(new Set(done.map(({ n }) => n)))).toEqual(numbers(1_000))
  expect(done.length, 'only what was in work is done twice').toBeLessThanOrEqual(1_000 + 3 * 10)
})

test('a living consumer reclaims what a killed one left, processes it, and an incident says so', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 300), never)
  const dying = await startConsumerProcess({ url: redisUrl, consumer: 'two', workMs: 100, limits: { batchEvents: 5 } })
  await dying.waitUntil('working', async () => (await redis.lLen('processed')) > 10)
  await dying.kill('SIGKILL')
  const left = (await redis.xPending(stream, group)).pending
  expect(left).toBeGreaterThan(0)
  const from: string[] = []
  const observer = {
    redelivered: (entries: number, how: string) => void from.push(...Array<string>(entries).fill(how)),
  }
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl), observer })
  await expect.poll(() => redis.xLen(stream), { timeout: 15_000 }).toBe(0)
  expect(from.filter((how) => how === 'reclaimed').length).toBe(left)
  const byTheDead = (await processed(redis)).map(({ n }) => n)
  expect(sorted(new Set([...byTheDead, ...acked]))).toEqual(numbers(300))
  const leftBehind = async () =>
    (await listIncidents(redis, 100))
      .filter(({ kind, role }) => kind === 'consumer-died' && role === 'g one')
      .reduce((sum, { what }) => sum + Number(/left (\d+) entries/.exec(what)![1]), 0)
  await expect.poll(leftBehind, { timeout: 5_000 }).toBe(left)
})

test('a slow living consumer keeps its entries, however long its batch takes', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append([{ key: 'k', n: 0, deed: 'slow' }], never)
  const slow = await startConsumerProcess({ url: redisUrl, consumer: 'slow' })
  await slow.waitUntil('at the slow one', async () => (await redis.get('slow')) === '0')
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl) })
  await slow.waitUntil('done', async () => (await redis.lLen('processed')) === 1)
  await slow.waitUntil('acked', async () => (await redis.xLen(stream)) === 0)
  expect(acked).toEqual([])
  await slow.stop()
})

test('a consumer that cannot touch its entries keeps them as long as its lease lives', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 5), never)
  await redis.xGroupCreate(stream, group, '0')
  await redis.xReadGroup(group, 'two', { key: stream, id: '>' }, { COUNT: 5 })
  const lease = leaseKey({ ...address, consumer: 'two' })
  await redis.hSet(lease, { token: 'x', details: 'somewhere' })
  await redis.pExpire(lease, 3_000)
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl) })
  await delay(2_000)
  expect(acked).toEqual([])
  expect(await redis.exists(lease)).toBe(1)
  await expect.poll(() => sorted(acked), { timeout: 10_000 }).toEqual(numbers(5))
})

test('what a stopped consumer held is reclaimed; when it wakes up it takes nothing back, and nothing is lost', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 200), never)
  const sleeper = await startConsumerProcess({ url: redisUrl, consumer: 'two', workMs: 50, limits: { batchEvents: 5 } })
  await sleeper.waitUntil('working', async () => (await redis.lLen('processed')) > 10)
  sleeper.pause()
  const left = (await redis.xPending(stream, group)).pending
  expect(left).toBeGreaterThan(0)
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl) })
  await expect.poll(() => redis.xLen(stream), { timeout: 15_000 }).toBe(0)
  const asleep = (await processed(redis)).length
  sleeper.resume()
  await tools.producer(redis).append(eventsFrom(200, 200), never)
  await expect.poll(() => redis.xLen(stream), { timeout: 15_000 }).toBe(0)
  await sleeper.waitUntil('awake again', async () => (await processed(redis)).length > asleep)
  expect((await sleeper.stop()).code).toBe(0)
  const numbersOfTwo = (await processed(redis)).map(({ n }) => n)
  expect(sorted(new Set([...numbersOfTwo, ...acked]))).toEqual(numbers(400))
  expect((await redis.xPending(stream, group)).pending).toBe(0)
})

test('a second process with the same name refuses to start, and says who has it', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const first = await startConsumerProcess({ url: redisUrl, consumer: 'one' })
  await first.waitUntil('alive', async () => (await redis.exists(leaseKey(address))) === 1)
  const second = await startConsumerProcess({ url: redisUrl, consumer: 'one' })
  expect((await second.exited).code).toBe(1)
  expect(second.log.tail()).toContain('consumer "one" of group g on s is in use by')
  expect(second.log.tail()).toContain(`pid ${first.pid}`)
  expect(first.isRunning).toBe(true)
  expect((await first.stop()).code).toBe(0)
  expect(await redis.exists(leaseKey(address))).toBe(0)
})

test('a process that slept while its name went to another stops for good when it wakes up', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const sleeper = await startConsumerProcess({ url: redisUrl, consumer: 'one' })
  await sleeper.waitUntil('alive', async () => (await redis.exists(leaseKey(address))) === 1)
  sleeper.pause()
  const successor = await startConsumerProcess({ url: redisUrl, consumer: 'one' })
  await successor.waitUntil('in its place', async () =>
    (await redis.hGet(leaseKey(address), 'details'))!.endsWith(`${successor.pid}`),
  )
  sleeper.resume()
  expect((await sleeper.exited).code).toBe(1)
  expect(sleeper.log.tail()).toContain(`pid ${successor.pid}`)
  await successor.stop()
})

test('the name of a process that was killed is free again as soon as its lease has run out', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const first = await startConsumerProcess({ url: redisUrl, consumer: 'one' })
  await first.waitUntil('alive', async () => (await redis.exists(leaseKey(address))) === 1)
  await first.kill('SIGKILL')
  const second = await startConsumerProcess({ url: redisUrl, consumer: 'one' })
  await tools.producer(redis).append(eventsFrom(0, 3), never)
  await second.waitUntil('working', async () => (await redis.lLen('processed')) === 3)
  await second.stop()
})

test('a consumer that went away is forgotten, but only with nothing pending', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 2), never)
  await redis.xGroupCreate(stream, group, '0')
  await redis.xGroupCreateConsumer(stream, group, 'idle')
  await redis.xGroupCreateConsumer(stream, group, 'quiet')
  await redis.hSet(leaseKey({ ...address, consumer: 'quiet' }), 'token', 'x')
  await redis.xReadGroup(group, 'loaded', { key: stream, id: '>' }, { COUNT: 2 })
  const names = async () => (await redis.xInfoConsumers(stream, group)).map(({ name }) => name).toSorted()
  const lease = leaseKey({ ...address, consumer: 'loaded' })
  await redis.hSet(lease, 'token', 'x')
  const gone: string[] = []
  const observer = { retired: (consumers: string[]) => void gone.push(...consumers) }
  const { acked } = tools.consume({
    redis,
    reader: await tools.connect(redisUrl),
    observer,
    limits: { retireIdleMs: 100 },
  })
  // Before 7.2 the one that waits is not listed until it is handed something.
  const others = async () => (await names()).filter((name) => name !== 'one')
  await expect.poll(others, { timeout: 5_000 }).toEqual(['loaded', 'quiet'])
  await delay(1_000)
  expect(gone).toEqual(['idle'])
  await redis.del(lease)
  await expect.poll(names, { timeout: 5_000 }).toEqual(['one', 'quiet'])
  expect(sorted(acked)).toEqual([0, 1])
  expect(gone).toEqual(['idle', 'loaded'])
})

test('a full reader does not keep the reclaimer waiting for ever', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 40), never)
  await redis.xGroupCreate(stream, group, '0')
  await redis.xReadGroup(group, 'gone', { key: stream, id: '>' }, { COUNT: 20 })
  const acked: number[] = []
  const slowly = ackAll(acked, () => delay(100))
  const limits = { heldEntries: 4, batchEvents: 1, readEntries: 4, reclaimIdleMs: 200 }
  tools.consume({ redis, reader: await tools.connect(redisUrl), limits }, slowly, 2)
  await expect.poll(() => sorted(acked), { timeout: 20_000 }).toEqual(numbers(40))
})
