/** D4: what was under way when a process died is worked on alone, and does not keep what others need meanwhile. */
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { IndexModel } from './testing/index-model.ts'
import { deadOf, drainTo, enqueue, QUEUE } from './testing/queue-view.ts'

const GROUP = 'repo_backfill_group'
const CONSUMER = 'one'

/**
 * Leaves all that is queued as processes do that were killed: each entry was delivered often, and under way at so many
 * deaths.
 */
async function leaveUnderWay(redis: Redis, deathsOf: (did: string) => number): Promise<void> {
  await redis.xGroupCreate(QUEUE, GROUP, '0')
  await redis.xReadGroup(GROUP, CONSUMER, { key: QUEUE, id: '>' }, { COUNT: 1_000 })
  for (const { id, message } of (await redis.xRange(QUEUE, '-', '+'))!) {
    await redis.xClaim(QUEUE, GROUP, CONSUMER, 0, id, { RETRYCOUNT: 5 })
    const { did } = JSON.parse(message.repo!) as { did: string }
    await redis.hSet(`${QUEUE}:under-way:${GROUP}`, id, deathsOf(did))
  }
}

test('D4, B2: suspects that wait for each other hold no places: the others go on, and each has its turn', async ({
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const held = Promise.withResolvers<void>()
  const suspects = await Promise.all(
    Array.from({ length: 20 }, async (_, i) =>
      network.addAccount(populatedRepo(`suspect ${i}`, 3), await network.addHost({ hold: held.promise })),
    ),
  )
  const guilty = network.addAccount(populatedRepo('guilty', 3), await network.addHost())
  const fresh = network.addAccount(populatedRepo('fresh', 3), await network.addHost())
  const entryOf = ({ did, pds }: typeof fresh) => ({ did, host: pds.host, rev: '', reason: 'listed' as const })
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    await enqueue(redis, [...suspects, guilty].map(entryOf))
    await leaveUnderWay(redis, (did) => (did === guilty.did ? 10 : 1))
    await enqueue(redis, [entryOf(fresh)])
    await using _ = await startDaemon({
      role: 'backfiller',
      env: {
        REDIS_URL: redisUrl,
        PLC_URL: network.plcUrl,
        ALLOW_PRIVATE_HOSTS: 'true',
        BACKFILLER_CONSUMER: CONSUMER,
        BACKFILLER_CONCURRENCY: '16',
        BACKFILLER_IDLE_MS: '10m',
      },
    })
    const index = new IndexModel()
    const revsOf = async (accounts: readonly (typeof fresh)[]): Promise<string[]> => {
      await drainTo(redis, index)
      return accounts.map(({ did }) => index.repo(did).rev)
    }
    await expect.poll(() => revsOf([fresh]), { timeout: 20_000 }).toEqual([fresh.repo.rev])
    const underWay = (): number => suspects.reduce((sum, { served }) => sum + served, 0)
    await expect.poll(underWay, { message: 'they are worked on one at a time' }).toBe(1)
    expect(await deadOf(redis)).toEqual(new Map([[guilty.did, 'crash-loop']]))
    held.resolve()
    await expect.poll(() => revsOf(suspects), { timeout: 20_000 }).toEqual(suspects.map(({ repo }) => repo.rev))
    await expect.poll(() => redis.hLen(`${QUEUE}:under-way:${GROUP}`)).toBe(0)
  } finally {
    redis.destroy()
  }
})
