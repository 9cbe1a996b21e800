/** What is given up again and again, each time that somebody asks for it anew, is one dead letter: the latest. */
import { expect } from '@sluice/sandbox/fixtures.ts'
import type { Redis } from './connection.ts'
import { bury, deadLetterStream, DeadLettersFullError, retryDeadLetters } from './dead-letters.ts'
import { listDeadLetters } from './testing/list-letters.ts'
import { eventsFrom } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'

const { stream, group } = address
const INDEX = `${deadLetterStream(stream)}:latest`

/** Adds an entry and gives it up. */
async function giveUp(redis: Redis, key: string | undefined, reason: string, cap = 10): Promise<number> {
  const fields = { repo: JSON.stringify({ did: key, reason }) }
  const entryId = await redis.xAdd(stream, '*', fields)
  return bury(redis, { stream, group, entryId, fields, reason, message: '', attempts: 1, key }, cap)
}

const letters = async (redis: Redis) => (await listDeadLetters(redis, stream, 100)).map(({ reason }) => reason)

test('of a key the latest is kept, with its reason; others are not touched', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await redis.xGroupCreate(stream, group, '0', { MKSTREAM: true })
  expect(await giveUp(redis, 'a', 'first')).toBe(1)
  expect(await giveUp(redis, 'b', 'of another')).toBe(2)
  expect(await giveUp(redis, 'a', 'second')).toBe(2)
  expect(await giveUp(redis, 'a', 'third')).toBe(2)
  expect(await letters(redis)).toEqual(['of another', 'third'])
  expect(await giveUp(redis, undefined, 'without key')).toBe(3)
  expect(await giveUp(redis, undefined, 'without key')).toBe(4)
  expect(await redis.xLen(stream)).toBe(0)
})

test('full dead letters take another one of a key that has one, and none of any other', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await giveUp(redis, 'a', 'first', 2)
  await giveUp(redis, 'b', 'of another', 2)
  await expect(giveUp(redis, 'c', 'of a third', 2)).rejects.toThrow(DeadLettersFullError)
  expect(await giveUp(redis, 'a', 'second', 2)).toBe(2)
  expect(await letters(redis)).toEqual(['of another', 'second'])
  expect(await redis.xLen(stream)).toBe(1)
})

test('one that was put back is no longer the latest, and buried twice for a lost answer it stays', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await giveUp(redis, 'a', 'first')
  expect((await retryDeadLetters(redis, stream, { reason: 'first' })).retried).toBe(1)
  expect(await giveUp(redis, 'a', 'second')).toBe(1)
  const { entryId } = (await listDeadLetters(redis, stream, 1))[0]!
  const again = { stream, group, entryId, fields: {}, reason: 'again', message: '', attempts: 1, key: 'a' }
  expect(await bury(redis, again)).toBe(1)
  expect(await letters(redis)).toEqual(['second'])
})

test('what is remembered of keys does not grow without end', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await giveUp(redis, 'stays', 'of one', 4)
  for (let n = 0; n < 30; n++) {
    await giveUp(redis, `key ${n}`, 'dropped', 4)
    await redis.xDel(
      deadLetterStream(stream),
      (await listDeadLetters(redis, stream, 10)).filter(({ reason }) => reason === 'dropped').map(({ id }) => id),
    )
    expect(await redis.hLen(INDEX)).toBeLessThanOrEqual(8)
  }
  await redis.xTrim(deadLetterStream(stream), 'MAXLEN', 0)
  await giveUp(redis, 'alone', 'of one')
  expect(await redis.hGetAll(INDEX)).toEqual({ alone: expect.any(String) })
})

test('a consumer that is told so keeps one letter of a key', async ({ redisUrl, tools }) => {
  for (const oneLetterPerKey of [false, true]) {
    const redis = await tools.connect(redisUrl)
    await redis.flushDb()
    const producer = tools.producer(redis)
    await producer.append(
      eventsFrom(0, 6).map((event) => ({ ...event, key: 'same' })),
      never,
    )
    const running = tools.consume(
      { redis, reader: await tools.connect(redisUrl), oneLetterPerKey },
      async (batches) => {
        for await (const batch of batches) {
          for (const event of batch.events) await batch.refuse(event, { reason: `no ${event.n}`, message: '' })
          await batch.ack()
        }
      },
    )
    await expect.poll(() => redis.xLen(stream)).toBe(0)
    await running.stop()
    expect(await letters(redis)).toHaveLength(oneLetterPerKey ? 1 : 6)
    expect((await letters(redis)).at(-1)).toBe('no 5')
  }
})
