/**
 * B2: a host that answers 429 for ever: its repositories do not take turns for ever, and what it puts off for a while
 * costs them nothing.
 */
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { hostKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { deadOf, enqueue, laterOf, QUEUE } from './testing/queue-view.ts'

test('B2: what a host puts off by 429 costs nothing, until it has given no other answer for days: then its repositories are given up, by name', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const network = stack.use(await FakeNetwork.start())
  const pds = await network.addHost()
  const accounts = ['one', 'two'].map((name) => network.addAccount(populatedRepo(name, 1), pds))
  for (const account of accounts) account.fault = { kind: 'status', status: 429, headers: { 'retry-after': '0' } }
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  await enqueue(
    redis,
    accounts.map(({ did }) => ({ did, host: pds.host, rev: '', reason: 'listed' })),
  )
  const waits = { BACKFILLER_RETRY_MS: '10ms', BACKFILLER_RETRY_MAX_MS: '100ms' }
  const env = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', BACKFILLER_CONSUMER: 'one' }
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: { ...env, ...waits } }))
  // More often than it is borne with by then.
  await expect.poll(() => accounts[0]!.fired, { timeout: 20_000 }).toBeGreaterThan(3)
  expect(await daemon.metric('sluice_backfill_retries_total', { class: 'limited' })).toBe(0)
  expect((await laterOf(redis)).size).toBe(2)
  const key = hostKey(QUEUE, pds.host)
  const longAgo = Number(await redis.hGet(key, 'limitedSince')) - 97 * 3_600_000
  await redis.hSet(key, 'limitedSince', longAgo)
  const givenUp = new Map(accounts.map(({ did }) => [did, 'rate-limited']))
  await expect.poll(() => deadOf(redis), { timeout: 40_000 }).toEqual(givenUp)
  expect(await daemon.metric('sluice_backfill_retries_total', { class: 'limited' })).toBe(4)
})
