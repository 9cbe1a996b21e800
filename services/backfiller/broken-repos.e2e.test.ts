/** B2: repositories that fail by themselves do not close their host. Counted each time, the two below were held up for 15 s by each other's failures. */
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { IndexModel } from './testing/index-model.ts'
import { drainTo, enqueue } from './testing/queue-view.ts'

test('B2: two repositories that fail time and again, and are all that is left of their host, do not park it, and arrive', async ({
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const pds = await network.addHost()
  const accounts = ['one', 'another'].map((name) => network.addAccount(populatedRepo(`broken ${name}`, 3), pds))
  for (const account of accounts) account.fault = { kind: 'status', status: 502, times: 3 }
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
        BACKFILLER_CONSUMER: 'one',
        BACKFILLER_RETRY_MS: '10ms',
        BACKFILLER_RETRY_MAX_MS: '100ms',
      },
    })
    const index = new IndexModel()
    const done = async (): Promise<boolean> => {
      await drainTo(redis, index)
      return accounts.every(({ did, repo }) => index.repo(did).rev === repo.rev)
    }
    await expect.poll(done, { timeout: 60_000 }).toBe(true)
    for (const account of accounts) expect(index.contents(account.did)).toEqual(account.contents())
    expect(accounts.map(({ fired }) => fired)).toEqual([3, 3])
    expect(await daemon.metric('sluice_backfill_host_waits_total', { why: 'parked' })).toBe(0)
  } finally {
    redis.destroy()
  }
})
