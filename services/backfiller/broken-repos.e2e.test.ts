/**
 * B2: repositories that fail by themselves do not close their host, and one that answers with web pages, as those who
 * answer in place of a host do, is down. Counted each time, the two below were held up for 15 s by each other's
 * failures.
 */
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import type { Fault } from '@sluice/sandbox/testing/fake-account.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { IndexModel } from './testing/index-model.ts'
import { deadOf, drainTo, enqueue, laterOf } from './testing/queue-view.ts'

const PAGE = `<!doctype html><title>Just a moment</title>${' '.repeat(2_000)}`
const BACKFILLER = { BACKFILLER_CONSUMER: 'one', BACKFILLER_RETRY_MS: '10ms', BACKFILLER_RETRY_MAX_MS: '100ms' }

test.for<[string, Fault]>([
  ['fail', { kind: 'status', status: 502, times: 3 }],
  // More often than a repository is tried that is broken by itself.
  ['are web pages', { kind: 'page', body: PAGE, times: 9 }],
  ["are a proxy's 404", { kind: 'status', status: 404, times: 9 }],
])(
  'B2: two repositories that %s time and again, and are all that is left of their host, do not park it, and arrive',
  async ([, fault], { redisUrl }) => {
    await using network = await FakeNetwork.start()
    const pds = await network.addHost()
    const accounts = ['one', 'another'].map((name) => network.addAccount(populatedRepo(`broken ${name}`, 3), pds))
    for (const account of accounts) account.fault = { ...fault }
    const redis = await connectRedis({ url: redisUrl, name: 'test' })
    try {
      await enqueue(
        redis,
        accounts.map(({ did, repo }) => ({ did, host: pds.host, rev: repo.rev, reason: 'listed' })),
      )
      await using daemon = await startDaemon({
        role: 'backfiller',
        env: {
          REDIS_URL: redisUrl,
          PLC_URL: network.plcUrl,
          ALLOW_PRIVATE_HOSTS: 'true',
          ...BACKFILLER,
        },
      })
      const index = new IndexModel()
      const done = async (): Promise<boolean> => {
        await drainTo(redis, index)
        return accounts.every(({ did, repo }) => index.repo(did).rev === repo.rev)
      }
      await expect.poll(async () => (await deadOf(redis)).size > 0 || (await done()), { timeout: 60_000 }).toBe(true)
      expect([...(await deadOf(redis))]).toEqual([])
      for (const account of accounts) expect(index.contents(account.did)).toEqual(account.contents())
      expect(accounts.map(({ fired }) => fired)).toEqual([fault.times, fault.times])
      expect(await daemon.metric('sluice_backfill_host_waits_total', { why: 'parked' })).toBe(0)
    } finally {
      redis.destroy()
    }
  },
)

test('B2: a host that has a web page for everybody is parked, and no repository of it is given up; when it is back they arrive', async ({
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const pds = await network.addHost()
  const names = Array.from({ length: 6 }, (_, i) => `parked ${i}`)
  const accounts = names.map((name) => network.addAccount(populatedRepo(name, 3), pds))
  for (const account of accounts) account.fault = { kind: 'page', body: PAGE }
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    await enqueue(
      redis,
      accounts.map(({ did, repo }) => ({ did, host: pds.host, rev: repo.rev, reason: 'listed' })),
    )
    const env = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', ...BACKFILLER }
    await using daemon = await startDaemon({ role: 'backfiller', env })
    const isParked = async () => (await daemon.metric('sluice_backfill_host_waits_total', { why: 'parked' })) > 0
    await expect.poll(async () => (await deadOf(redis)).size > 0 || (await isParked()), { timeout: 60_000 }).toBe(true)
    expect(Math.max(...accounts.map(({ fired }) => fired))).toBeGreaterThan(0)
    expect([...(await deadOf(redis))]).toEqual([])
    for (const { failure } of (await laterOf(redis)).values()) expect(failure ?? 'unavailable').toBe('unavailable')
    for (const account of accounts) account.fault = undefined
    const index = new IndexModel()
    const done = async (): Promise<boolean> => {
      await drainTo(redis, index)
      return accounts.every(({ did, repo }) => index.repo(did).rev === repo.rev)
    }
    await expect.poll(done, { timeout: 120_000 }).toBe(true)
    expect([...(await deadOf(redis))]).toEqual([])
  } finally {
    redis.destroy()
  }
})
