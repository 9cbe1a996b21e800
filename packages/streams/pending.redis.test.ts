import { expect } from '@sluice/sandbox/fixtures.ts'
import type { Redis } from './connection.ts'
import { claim, listPending, touch } from './pending.ts'
import { runScript, scripts } from './scripts.ts'
import { eventsFrom } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'

const { stream, group } = address
const two = { ...address, consumer: 'two' }
const LONG_MS = 3_600_000

/** Three entries in the hands of `one`, untouched for two hours. */
async function handOut(redis: Redis): Promise<[string, string, string]> {
  await redis.xGroupCreate(stream, group, '0')
  await redis.xReadGroup(group, address.consumer, { key: stream, id: '>' }, { COUNT: 3 })
  const ids = (await listPending(redis, address, { idleMs: 0, count: 10 })).map(({ id }) => id)
  await redis.xClaimJustId(stream, group, address.consumer, 0, ids, { IDLE: 2 * LONG_MS })
  return ids as [string, string, string]
}

test('a claim takes what nobody touched, names the phantoms, and leaves what was touched or acked meanwhile', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 4), never)
  const [first, second, third] = await handOut(redis)
  await touch(redis, address, LONG_MS, [first])
  await redis.xDel(stream, second)
  const found = await claim(redis, two, LONG_MS, [first, second, third, '1-1'])
  expect(found.entries.map(({ id }) => id)).toEqual([third])
  expect(found.phantoms).toEqual([second])
  const pending = await listPending(redis, address, { idleMs: 0, count: 10 })
  expect(pending.map(({ id, consumer, deliveries }) => [id, consumer, deliveries])).toEqual([
    [first, 'one', 1],
    [third, 'two', 2],
  ])
  await redis.xAck(stream, group, third)
  expect(await claim(redis, two, 0, [third])).toEqual({ entries: [], phantoms: [] })
})

test('a touch is no delivery, and takes nothing back that another has taken', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 3), never)
  const [first, second] = await handOut(redis)
  await claim(redis, two, LONG_MS, [first])
  await touch(redis, address, LONG_MS, [first, second])
  const pending = await listPending(redis, address, { idleMs: 0, count: 2 })
  expect(pending.map(({ id, consumer, deliveries }) => [id, consumer, deliveries])).toEqual([
    [first, 'two', 2],
    [second, 'one', 1],
  ])
  expect(pending[1]!.idleMs).toBeLessThan(LONG_MS)
})

test('a consumer that was given an entry since it was looked at is not removed with it', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 3), never)
  const ids = await handOut(redis)
  const retire = async () => runScript(redis, scripts.retire, [stream], [group, address.consumer])
  expect(await retire()).toBe(0)
  expect((await redis.xPending(stream, group)).pending).toBe(3)
  await redis.xAck(stream, group, [...ids])
  expect(await retire()).toBe(1)
  expect(await redis.xInfoConsumers(stream, group)).toEqual([])
})
