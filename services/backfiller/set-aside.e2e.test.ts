/**
 * B2: one owner whose hosts answer garbage for any number of accounts does not fill the room for dead letters, which
 * would stop the queue.
 */
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { lettersOfKey, setAsideKey } from '@sluice/streams/backfill-queue.ts'
import { chainAddress, encodeChain, readChains, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { deadLetterStream, latestLetters } from '@sluice/streams/dead-letters.ts'
import { listIncidents } from '@sluice/streams/incidents.ts'
import { enqueue, QUEUE } from './testing/queue-view.ts'

const DEAD = deadLetterStream(QUEUE)

test('an owner that has an eighth of all dead letters gets no more: its repositories are set aside, counted, told of once, and still count as missing; others have letters', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const network = stack.use(await FakeNetwork.start())
  const pds = await network.addHost()
  const { host } = pds
  const add = (name: string) => network.addAccount(populatedRepo(name, 1), pds)
  const refused = ['one', 'two', 'three'].map(add)
  const homeless = add('homeless')
  homeless.document = 'no-pds'
  for (const account of refused) account.fault = { kind: 'status', status: 403, error: 'Forbidden' }
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const fill = `for i = 1, 12500 do
    local id = redis.call('XADD', KEYS[1], '*', 'reason', 'bug')
    redis.call('HSET', KEYS[2], i, id)
    redis.call('SADD', KEYS[3], i)
  end`
  await redis.eval(fill, { keys: [DEAD, latestLetters(QUEUE), lettersOfKey(QUEUE, ownerOf(host))] })
  const wanted = encodeChain({ ...UNKNOWN_CHAIN, resync: { need: '', askedAt: 1 } })
  for (const { key, field } of refused.map(({ did }) => chainAddress(did))) await redis.hSet(key, field, wanted)
  const lastTry = (failure: string) => (account: FakeAccount) => ({ did: account.did, host, rev: account.repo.rev, reason: 'listed' as const, attempts: 4, failure }) // prettier-ignore
  await enqueue(redis, [...refused.map(lastTry('refused')), lastTry('identity')(homeless)])
  const env = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', BACKFILLER_CONSUMER: 'one' }
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env }))
  const outcomes = async () =>
    await Promise.all(['set-aside', 'dead'].map((outcome) => daemon.metric('sluice_backfill_repos_total', { outcome })))
  await expect.poll(outcomes, { timeout: 30_000 }).toEqual([3, 1])
  expect(refused.map(({ fired }) => fired)).toEqual([1, 1, 1])
  expect(await redis.xLen(DEAD)).toBe(12_501)
  expect(await redis.xLen(QUEUE)).toBe(0)
  expect(await redis.hGetAll(setAsideKey(QUEUE))).toEqual({ [`${host} unauthorized`]: '3' })
  const told = (await listIncidents(redis, 10)).filter(({ what }) => what.includes(host))
  expect(told).toMatchObject([
    { kind: 'dead-letters', action: expect.stringContaining('sluice backfill host') as string },
  ])
  const chains = await readChains(
    redis,
    refused.map(({ did }) => did),
  )
  expect(chains.map((chain) => chain?.record.resync)).toEqual(refused.map(() => ({ need: '', askedAt: 1 })))
})
