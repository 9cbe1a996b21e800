/** B2: how many statuses of did:webs that may be made up are kept: nobody chooses whose count his domain shares. */
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { madeUpKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { fnv1a } from '@sluice/streams/fnv.ts'
import { mayKeepStatus } from './unconfirmed.ts'

const QUEUE = 'repo_backfill'
const listed = (domain: string): BackfillEvent => ({ did: `did:web:${domain}`, host: 'pds.example', rev: '', reason: 'listed' }) // prettier-ignore

test('a domain that shares its part with another by every hash without a secret uses up its own count only', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  // With this salt the two have parts of their own.
  await redis.hSet(madeUpKey(QUEUE), 'salt', 'grains ')
  const part = (domain: string): number => fnv1a(domain) % 4_096
  let tries = 0
  while (part(`evil${tries}.example`) !== part('honest.example')) tries++
  const evil = listed(`evil${tries}.example`)
  const kept = await Promise.all(Array.from({ length: 1_001 }, () => mayKeepStatus({ redis, queue: QUEUE }, evil)))
  expect(kept.filter(Boolean).length).toBe(1_000)
  expect(await mayKeepStatus({ redis, queue: QUEUE }, listed('honest.example'))).toBe(true)
})

test('the parts are those by a salt, which each Redis has for itself; what an older version has counted by others is dropped', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const salts: string[] = []
  const parts = new Set<string>()
  for (let i = 0; i < 8; i++) {
    const queue = `queue${i}`
    await redis.hSet(madeUpKey(queue), { 17: 1_000, 4_095: 1_000 })
    for (let times = 1; times <= 3; times++) {
      expect(await mayKeepStatus({ redis, queue }, listed('a.example'))).toBe(true)
      const { salt, ...counts } = await redis.hGetAll(madeUpKey(queue))
      salts[i] ??= salt!
      expect(salt).toBe(salts[i])
      expect(Object.values(counts)).toEqual([String(times)])
      parts.add(Object.keys(counts)[0]!)
    }
  }
  for (const salt of salts) expect(salt).toMatch(/^[0-9a-f]{32}$/)
  expect(new Set(salts).size).toBe(salts.length)
  // By chance all eight are the same once in 10²⁵ times.
  expect(parts.size).toBeGreaterThan(1)
})
