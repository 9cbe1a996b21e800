/**
 * A1: what a host says of an account was true when it was asked. Found by chaos seed 139: a status that was noted late
 * won over the reactivation after it.
 */
import { populatedRepo, testDid } from '@sluice/atproto/testing/world.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { chainAddress, encodeChain, readChains, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { IndexModel } from './testing/index-model.ts'
import { deadOf, drainTo, enqueue, laterOf, OUTPUT, QUEUE } from './testing/queue-view.ts'

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

test('A3, B3: fetched from the host that listed it, an account has the status that its PDS says, not what the other says of one that it has no more', async ({
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const [mirror, pds] = [await network.addHost(), await network.addHost()]
  const account = (name: string) => network.addAccount(populatedRepo(name, 1), pds)
  const [copied, left, unknown, gone] = [account('copied'), account('left'), account('unknown'), account('gone')]
  const copy = new FakeAccount(copied.repo, mirror)
  new FakeAccount(left.repo, mirror).status = 'deactivated'
  new FakeAccount(gone.repo, mirror).status = 'takendown'
  gone.status = 'suspended'
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    await enqueue(
      redis,
      [copied, left, unknown, gone].map(({ did }) => ({ did, host: mirror.host, rev: '', reason: 'listed' })),
    )
    await using _ = await startDaemon({
      role: 'backfiller',
      env: {
        REDIS_URL: redisUrl,
        PLC_URL: network.plcUrl,
        ALLOW_PRIVATE_HOSTS: 'true',
        BACKFILLER_CONSUMER: 'one',
        BACKFILLER_FETCH_FROM: 'listed',
      },
    })
    await expect.poll(() => redis.xLen(QUEUE), { timeout: 20_000 }).toBe(0)
    const index = new IndexModel()
    await drainTo(redis, index)
    const found = [copied, left, unknown, gone].map(({ did }) => index.repo(did))
    expect(found.map(({ rev, status }) => rev || status)).toEqual([
      copied.repo.rev,
      left.repo.rev,
      unknown.repo.rev,
      'suspended',
    ])
    expect(found[3]!.statusHost).toBe(pds.host)
    expect([copy.served, copied.served], 'what it has is taken from there').toEqual([1, 0])
    expect(await deadOf(redis)).toEqual(new Map())
  } finally {
    redis.destroy()
  }
})

test('an account that is found inactive is so in its chain record too, so that its reactivation asks for it anew', async ({
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const pds = await network.addHost()
  const [away, gone] = ['away', 'gone'].map((name) => network.addAccount(populatedRepo(name, 1), pds))
  away!.status = 'deactivated'
  gone!.document = 'tombstoned'
  const dids = [away!.did, gone!.did]
  // As the listing leaves it: asked for, and pending.
  const listed = { ...UNKNOWN_CHAIN, resync: { need: away!.repo.rev, askedAt: Math.floor(Date.now() / 1_000) } }
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    for (const { key, field } of dids.map(chainAddress)) await redis.hSet(key, field, encodeChain(listed))
    await enqueue(
      redis,
      dids.map((did) => ({ did, host: pds.host, rev: '', reason: 'listed' as const })),
    )
    await using _ = await startDaemon({
      role: 'backfiller',
      env: { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', BACKFILLER_CONSUMER: 'one' },
    })
    await expect.poll(() => redis.xLen(OUTPUT), { timeout: 20_000 }).toBe(2)
    const events = (await redis.xRange(OUTPUT, '-', '+'))!.map(({ message }) => streamEventCodec.decode(message))
    const said = events.flatMap((event) => (event.type === 'account' ? [[event.did, event.status]] : []))
    expect(new Map(said as [string, string][])).toEqual(
      new Map([
        [away!.did, 'deactivated'],
        [gone!.did, 'deleted'],
      ]),
    )
    const records = (await readChains(redis, dids)).map((stored) => stored?.record)
    expect(records).toEqual(dids.map(() => ({ ...listed, inactive: true })))
  } finally {
    redis.destroy()
  }
})

test('an account that a PDS makes up is passed over without a dead letter; one that a relay lists is asked for again', async ({
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const [madeUp, listed] = ['made up', 'listed'].map(testDid) as [string, string]
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    // As the listing of a PDS, and of a relay, leaves them.
    const asked = (need: string) => encodeChain({ ...UNKNOWN_CHAIN, resync: { need, askedAt: 1 } })
    const wanted = [
      [madeUp, ''],
      [listed, '3kzzzzzzzzzz2'],
    ] as const
    for (const [did, need] of wanted) {
      const { key, field } = chainAddress(did)
      await redis.hSet(key, field, asked(need))
    }
    await enqueue(redis, [
      { did: madeUp, host: 'pds.example', rev: '', reason: 'listed' },
      { did: madeUp, host: 'pds.example', rev: '', active: false, status: 'takendown', reason: 'listed' },
      { did: listed, host: 'relay.example', rev: '3kzzzzzzzzzz2', reason: 'listed' },
    ])
    await using daemon = await startDaemon({
      role: 'backfiller',
      env: { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', BACKFILLER_CONSUMER: 'one' },
    })
    const later = async () => [...(await laterOf(redis))].map(([did, { failure }]) => ({ did, failure }))
    await expect.poll(later, { timeout: 20_000 }).toEqual([{ did: listed, failure: 'identity' }])
    await expect.poll(() => daemon.metric('sluice_backfill_repos_total', { outcome: 'no-account' })).toBe(2)
    expect(await deadOf(redis)).toEqual(new Map())
    const known = await readChains(redis, [madeUp, listed])
    // It takes no memory any more, however many such accounts a host makes up.
    expect(known.map((stored) => stored?.record.resync)).toEqual([undefined, { need: '3kzzzzzzzzzz2', askedAt: 1 }])
  } finally {
    redis.destroy()
  }
})
