/** Which records of an export are appended: what the indexer stores, or what the operator names for the backfiller. */
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { enqueue, OUTPUT } from './testing/queue-view.ts'

const STORED = 'com.example.note'
const OTHER = 'com.other.note'
const POST = 'app.bsky.feed.post'

test.for<[string, Record<string, string>, string[]]>([
  ['the default list and what the indexer stores beyond it', { INDEXER_COLLECTIONS: 'com.example.*' }, [POST, STORED]],
  [
    'what the operator names for the backfiller, and nothing else',
    { INDEXER_COLLECTIONS: 'com.example.*', BACKFILLER_COLLECTIONS: OTHER },
    [OTHER],
  ],
])('C6: an export brings %s', async ([, settings, collections], { redisUrl }) => {
  await using network = await FakeNetwork.start()
  const repo = new TestRepo(testDid('collections'))
  repo.write(
    [POST, STORED, OTHER].map((nsid) => ({ path: `${nsid}/3kaaaaaaaaa22`, record: { $type: nsid, text: '' } })),
  )
  const { did, pds } = network.addAccount(repo, await network.addHost())
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    const env = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', ...settings }
    await using backfiller = await startDaemon({ role: 'backfiller', env: { ...env, BACKFILLER_CONSUMER: 'one' } })
    await enqueue(redis, [{ did, host: pds.host, rev: repo.rev, reason: 'gap' }])
    const exported = () => backfiller.metric('sluice_backfill_repos_total', { outcome: 'resynced' })
    await expect.poll(exported, { timeout: 60_000 }).toBe(1)
    const events = (await redis.xRange(OUTPUT, '-', '+'))!.map(({ message }) => streamEventCodec.decode(message))
    expect(events.flatMap((event) => (event.type === 'create' ? event.collection : []))).toEqual(collections)
  } finally {
    redis.destroy()
  }
})
