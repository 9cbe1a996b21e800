/**
 * Entries that a backfiller had when it died come again, and those that somebody deleted meanwhile do not: both are
 * counted.
 */
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { IndexModel } from './testing/index-model.ts'
import { drainTo, enqueue, QUEUE } from './testing/queue-view.ts'

const GROUP = 'repo_backfill_group'

test('D4: entries that come again after a restart, that are taken over, and that are gone are counted, each as what it is', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const network = stack.use(await FakeNetwork.start())
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const pds = await network.addHost()
  const accounts = Array.from({ length: 6 }, (_, i) => network.addAccount(populatedRepo(`handed out ${i}`, 3), pds))
  // One after the other, so that the order is known.
  for (const { did, repo } of accounts) await enqueue(redis, [{ did, host: pds.host, rev: repo.rev, reason: 'listed' }])
  await redis.xGroupCreate(QUEUE, GROUP, '0')
  const handOut = async (consumer: string, count: number): Promise<string[]> => {
    const read = (await redis.xReadGroup(GROUP, consumer, { key: QUEUE, id: '>' }, { COUNT: count })) as
      { messages: { id: string }[] }[] | null
    return read![0]!.messages.map(({ id }) => id)
  }
  const own = await handOut('one', 3)
  expect(await handOut('dead', 2)).toHaveLength(2)
  expect(await redis.xDel(QUEUE, own[0]!)).toBe(1)

  const env = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', BACKFILLER_CONSUMER: 'one' }
  const limits = { BACKFILLER_RECLAIM_IDLE_MS: '1s' }
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: { ...env, ...limits } }))
  const index = new IndexModel()
  const done = async (): Promise<boolean> => {
    await drainTo(redis, index)
    return accounts.slice(1).every(({ did, repo }) => index.repo(did).rev === repo.rev)
  }
  await expect.poll(done, { timeout: 60_000 }).toBe(true)
  expect(accounts[0]!.served).toBe(0)
  const counted = (what: string) => daemon.metric('sluice_backfill_entries_total', { what })
  expect([await counted('phantom'), await counted('redelivered'), await counted('reclaimed')]).toEqual([1, 2, 2])
})
