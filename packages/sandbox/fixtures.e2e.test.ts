import { createClient } from 'redis'
import { expect, test } from './fixtures.ts'
import { queryOnce } from './postgres.ts'

test('a test gets a database and a Redis of its own, empty', async ({ emptyDatabase, redisUrl }) => {
  expect(
    await queryOnce(emptyDatabase, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace`),
  ).toEqual([])
  const redis = createClient({ url: redisUrl })
  await redis.connect()
  expect(await redis.dbSize()).toBe(0)
  await redis.set('left', 'behind')
  await redis.close()
})

test('what one test writes is not seen by the next', async ({ redisUrl }) => {
  const redis = createClient({ url: redisUrl })
  await redis.connect()
  expect(await redis.get('left')).toBe(null)
  await redis.close()
})
