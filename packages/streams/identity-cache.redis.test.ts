import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis } from './connection.ts'
import { IDENTITY_PREFIX, RedisIdentityCache } from './identity-cache.ts'

const ALICE = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
const VALUE = { status: 'found', handle: 'a name with spaces' }

async function cacheOn(url: string, slots?: number) {
  const redis = await connectRedis({ url, name: 'test' })
  const cache = new RedisIdentityCache<object>({ redis, ...(slots !== undefined && { slots }) })
  return { redis, cache, [Symbol.asyncDispose]: async () => redis.destroy() }
}

test('what one daemon stores the others read', async ({ redisUrl }) => {
  await using one = await cacheOn(redisUrl)
  await using two = await cacheOn(redisUrl)
  const { cached, epoch } = await one.cache.get(ALICE)
  expect(cached).toBe(undefined)
  expect(await one.cache.set(ALICE, VALUE, epoch)).toBe(true)
  expect((await two.cache.get(ALICE)).cached).toEqual(VALUE)
})

test('a purge beats a fill that started before it, and not one that started after it', async ({ redisUrl }) => {
  await using one = await cacheOn(redisUrl)
  await using two = await cacheOn(redisUrl)
  const before = await one.cache.get(ALICE)
  await two.cache.purge(ALICE)
  const after = await two.cache.get(ALICE)
  expect(await one.cache.set(ALICE, VALUE, before.epoch)).toBe(false)
  expect(await two.cache.get(ALICE)).toEqual({ cached: undefined, epoch: after.epoch })
  expect(await two.cache.set(ALICE, VALUE, after.epoch)).toBe(true)
  await one.cache.purge(ALICE)
  expect((await two.cache.get(ALICE)).cached).toBe(undefined)
})

test('DIDs that share a slot never get each other’s identity, and a purge of one voids fills of both', async ({
  redisUrl,
}) => {
  await using one = await cacheOn(redisUrl, 1)
  const { epoch } = await one.cache.get(ALICE)
  await one.cache.set(ALICE, VALUE, epoch)
  const bob = await one.cache.get('did:web:bob.example')
  expect(bob.cached).toBe(undefined)
  await one.cache.set('did:web:bob.example', { bob: 1 }, bob.epoch)
  expect((await one.cache.get(ALICE)).cached).toBe(undefined)
  const fill = await one.cache.get(ALICE)
  await one.cache.purge('did:web:bob.example')
  expect(await one.cache.set(ALICE, VALUE, fill.epoch)).toBe(false)
})

test('it never holds more than its slots, and what it holds ends by itself', async ({ redisUrl }) => {
  await using one = await cacheOn(redisUrl, 16)
  for (let i = 0; i < 200; i++) {
    const { epoch } = await one.cache.get(`did:web:${i}.example`)
    expect(await one.cache.set(`did:web:${i}.example`, VALUE, epoch)).toBe(true)
  }
  const keys = await one.redis.keys(`${IDENTITY_PREFIX}*`)
  expect(keys.length).toBeGreaterThan(8)
  expect(keys.length).toBeLessThanOrEqual(16)
  expect(await one.redis.pTTL(keys[0]!)).toBeGreaterThan(0)
})

test('in a full Redis it stores nothing, fails nothing, and still purges', async () => {
  await using server = await startRedis()
  await using one = await cacheOn(server.url())
  await one.cache.set(ALICE, VALUE, 0)
  await one.redis.configSet('maxmemory', '100kb')
  await expect(one.redis.set('other', 'x')).rejects.toThrow('OOM')
  expect(await one.cache.set('did:web:late.example', VALUE, 0)).toBe(false)
  await one.cache.purge(ALICE)
  expect((await one.cache.get(ALICE)).cached).toBe(undefined)
})
