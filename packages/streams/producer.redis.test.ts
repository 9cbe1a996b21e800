import { randomBytes } from 'node:crypto'
import { FatalError } from '@sluice/runtime/errors.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { CursorConflictError, type Step } from './producer.ts'
import { eventsFrom, numbers, testCodec } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'
import { FaultyProxy } from './testing/proxy.ts'
import type { Redis } from './connection.ts'

const { stream } = address
const CURSOR = 's:cursor:relay'

async function stored(redis: Redis, key = stream): Promise<number[]> {
  const entries = await redis.xRange(key, '-', '+')
  return (entries ?? []).map(({ message }) => testCodec.decode(message).n)
}

const databaseOf = (url: string): string => url.slice(url.lastIndexOf('/') + 1)

test('entries, cursor and every other step are stored in one call, in order', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const also: Step[] = [
    { step: 'set', key: 'state', value: 'seen' },
    { step: 'swap', key: 'chain', field: Buffer.from('did'), from: undefined, to: randomBytes(25) },
    { step: 'count', key: 'ledger', field: 'appended', by: 500 },
    { step: 'add', stream: 'requests', field: 'event', values: ['{"n":1}', '{"n":2}'] },
  ]
  const cursor = { key: CURSOR, from: null, to: '0' }
  await tools.producer(redis).append(eventsFrom(0, 500), never, { cursor, also })
  expect(await stored(redis)).toEqual(numbers(500))
  expect(await redis.get(CURSOR)).toBe('0')
  expect(await redis.get('state')).toBe('seen')
  expect(await redis.sendCommand(['STRLEN', 'state'])).toBe(4)
  expect(await redis.sendCommand(['HSTRLEN', 'chain', 'did'])).toBe(25)
  expect(await redis.hGetAll('ledger')).toEqual({ appended: '500' })
  expect(await stored(redis, 'requests')).toEqual([1, 2])
})

test('a cursor that is elsewhere stores nothing of the call', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await redis.set(CURSOR, '41')
  const also: Step[] = [
    { step: 'set', key: 'state', value: 'seen' },
    { step: 'add', stream: 'requests', field: 'event', values: ['{"n":1}'] },
  ]
  const cursor = { key: CURSOR, from: '40', to: '45' }
  const conflict = tools.producer(redis).append(eventsFrom(0, 5), never, { cursor, also })
  await expect(conflict).rejects.toThrow(CursorConflictError)
  await expect(conflict).rejects.toMatchObject({ key: CURSOR, found: '41' })
  expect(await redis.keys('*')).toEqual([CURSOR])
})

test('0 is a cursor, and absent is another thing', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const producer = tools.producer(redis)
  const append = (from: string | null, to: string) =>
    producer.append(eventsFrom(0, 1), never, { cursor: { key: CURSOR, from, to } })
  await expect(append('0', '1')).rejects.toMatchObject({ found: null })
  await append(null, '0')
  await expect(append(null, '1')).rejects.toMatchObject({ found: '0' })
  await append('0', '1')
  expect(await redis.get(CURSOR)).toBe('1')
})

test('two producers of one upstream: the second is told, and nothing is stored twice', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const [one, two] = [tools.producer(redis), tools.producer(redis)]
  await one.append(eventsFrom(0, 10), never, { cursor: { key: CURSOR, from: null, to: '10' } })
  await two.append(eventsFrom(10, 10), never, { cursor: { key: CURSOR, from: '10', to: '20' } })
  await expect(
    one.append(eventsFrom(10, 10), never, { cursor: { key: CURSOR, from: '10', to: '20' } }),
  ).rejects.toThrow(CursorConflictError)
  expect(await stored(redis)).toEqual(numbers(20))
})

test('a key of another type fails the call before anything is stored', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await redis.set('a-string', 'x')
  const field = Buffer.from('did')
  const wrong: Step[] = [
    { step: 'add', stream: 'a-string', field: 'event', values: ['{}'] },
    { step: 'count', key: 'a-string', field: 'n', by: 1 },
    { step: 'swap', key: 'a-string', field, from: undefined, to: randomBytes(25) },
    { step: 'mark', key: 'a-string', field, flags: 1 },
    { step: 'complete', key: 'a-string', field, value: randomBytes(24) },
  ]
  for (const step of wrong) {
    const cursor = { key: CURSOR, from: null, to: '5' }
    await expect(tools.producer(redis).append(eventsFrom(0, 5), never, { cursor, also: [step] })).rejects.toThrow(
      FatalError,
    )
    expect(await redis.keys('*'), step.step).toEqual(['a-string'])
  }
})

test('an answer that gets lost is recognised by the cursor: the entries are there once', async ({
  redisUrl,
  tools,
}) => {
  await using proxy = await FaultyProxy.start(redisUrl)
  const redis = await tools.connect(proxy.url(databaseOf(redisUrl)))
  const direct = await tools.connect(redisUrl)
  const retries: string[] = []
  const producer = tools.producer(redis, { onRetry: ({ error }) => void retries.push(error.message) })
  await producer.append(eventsFrom(0, 1), never, { cursor: { key: CURSOR, from: null, to: '1' } })
  proxy.loseAnswers('EVALSHA')
  await producer.append(eventsFrom(1, 9), never, { cursor: { key: CURSOR, from: '1', to: '10' } })
  expect(proxy.cuts).toBe(1)
  expect(retries.length).toBeGreaterThan(0)
  expect(await stored(direct)).toEqual(numbers(10))
  expect(await direct.get(CURSOR)).toBe('10')
})

test('an answer that gets lost without a cursor stores the entries again rather than losing them', async ({
  redisUrl,
  tools,
}) => {
  await using proxy = await FaultyProxy.start(redisUrl)
  const redis = await tools.connect(proxy.url(databaseOf(redisUrl)))
  const direct = await tools.connect(redisUrl)
  const producer = tools.producer(redis)
  await producer.append(eventsFrom(0, 1), never)
  proxy.loseAnswers('EVALSHA')
  await producer.append(eventsFrom(1, 2), never)
  expect(proxy.cuts).toBe(1)
  expect(await stored(direct)).toEqual([0, 1, 2, 1, 2])
})

test("a refusal is no lost answer: another producer's move to the same place is a conflict", async ({ tools }) => {
  await using server = await startRedis()
  const redis = await tools.connect(server.url())
  const other = await tools.connect(server.url())
  const cursor = { key: CURSOR, from: null, to: '10' }
  const refused: string[] = []
  const producer = tools.producer(redis, {
    onRetry: ({ error }) => void refused.push(error.constructor.name),
    backoff: { baseMs: 300, capMs: 300, healthyAfterMs: 1 },
    memoryRatioMax: 1e9,
  })
  await other.configSet('maxmemory', '100kb')
  const appending = producer.append(eventsFrom(0, 10), never, { cursor })
  appending.catch(() => {})
  await expect.poll(() => refused).toContain('RedisFullError')
  await other.sendCommand(['EVAL', "#!lua flags=allow-oom\nredis.call('SET', KEYS[1], '10')", '1', CURSOR])
  await other.configSet('maxmemory', '0')
  await expect(appending).rejects.toThrow(CursorConflictError)
})

test('a script that the server forgot is sent again', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  const producer = tools.producer(redis)
  await producer.append(eventsFrom(0, 1), never)
  await redis.scriptFlush()
  await producer.append(eventsFrom(1, 1), never)
  expect(await stored(redis)).toEqual([0, 1])
})

test('the signal ends the wait for a Redis that is away', async ({ tools }) => {
  const server = await startRedis()
  const redis = await tools.connect(server.url())
  const stop = new AbortController()
  let retries = 0
  const producer = tools.producer(redis, {
    onRetry: () => void retries++,
    backoff: { baseMs: 5, capMs: 5, healthyAfterMs: 1 },
  })
  await server.stop()
  const appending = producer.append(eventsFrom(0, 1), stop.signal)
  appending.catch(() => {})
  await expect.poll(() => retries).toBeGreaterThan(3)
  stop.abort()
  await expect(appending).rejects.toThrow('aborted')
})
