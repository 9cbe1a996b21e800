/** A1: what a host says of an account was true when it was asked. Found by chaos seed 139: a status that was noted late won over the reactivation after it. */
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { enqueue, OUTPUT } from './testing/queue-view.ts'

test('A1: the status that a host answers instead of a repository bears a time before the answer', async ({
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const repo = populatedRepo('status', 1)
  const account = network.addAccount(repo, await network.addHost({ latencyMs: 300 }))
  let answeredAtMs: number | undefined
  Object.defineProperty(account, 'status', {
    get() {
      answeredAtMs ??= Date.now()
      return 'deactivated'
    },
  })
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    await enqueue(redis, [{ did: repo.did, host: account.pds.host, rev: '', reason: 'requested' }])
    await using _ = await startDaemon({
      role: 'backfiller',
      env: { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', BACKFILLER_CONSUMER: 'one' },
    })
    await expect.poll(() => redis.xLen(OUTPUT), { timeout: 20_000 }).toBe(1)
    const [entry] = (await redis.xRange(OUTPUT, '-', '+'))!
    const event = streamEventCodec.decode(entry!.message)
    expect(event).toMatchObject({ type: 'account', active: false, status: 'deactivated' })
    expect(Date.parse(event.time)).toBeLessThan(answeredAtMs!)
  } finally {
    redis.destroy()
  }
})
