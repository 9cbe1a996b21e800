/** Options of a backfiller that decide what is lost, or whom it harms: each does what it says, as a process has it. */
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import type { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { moveChain, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import { priorityStream } from '@sluice/streams/backfill-queue.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { daemonWorld, type DaemonWorld } from './testing/daemon-world.ts'
import { IndexModel } from './testing/index-model.ts'
import { drainTo, enqueue, OUTPUT, QUEUE } from './testing/queue-view.ts'
import { records } from './testing/records.ts'

const WAIT = { timeout: 60_000, interval: 25 }
const POST = { $type: 'app.bsky.feed.post', text: 'soon gone', createdAt: '2026-01-01T00:00:00.000Z' }

const test = base.extend('world', async ({ redisUrl }, { onCleanup }) => daemonWorld(redisUrl, onCleanup))

/** Accounts at one new host. */
async function accountsOf(network: FakeNetwork, count: number): Promise<FakeAccount[]> {
  const random = new Random(7)
  const host = await network.addHost()
  return Array.from({ length: count }, (_, i) => {
    const repo = new TestRepo(testDid(`${host.url} ${i}`), { key: testKey('options') })
    repo.write(records(random, 10))
    return network.addAccount(repo, host)
  })
}

const entryOf = ({ did, pds, repo }: FakeAccount) => ({ did, host: pds.host, rev: repo.rev, reason: 'listed' as const })

async function exported(redis: Redis, accounts: readonly FakeAccount[], index = new IndexModel()): Promise<IndexModel> {
  const done = async (): Promise<boolean> => {
    await drainTo(redis, index)
    return accounts.every(({ did, repo }) => index.repo(did).rev === repo.rev)
  }
  await expect.poll(done, WAIT).toBe(true)
  return index
}

/** As the ingester notes an account that it lists: nothing of it was seen so far. */
async function noteUntouched(redis: Redis, did: string): Promise<void> {
  const { key, field, to } = moveChain(did, undefined, UNKNOWN_CHAIN)
  await redis.hSet(key, field, to)
}

test('after Redis lost its state BACKFILLER_EXPORTS=resync removes from the index what repositories no longer have', async ({
  world,
}) => {
  const { redis, network } = world
  const accounts = await accountsOf(network, 1)
  const [{ did, repo }] = accounts as [FakeAccount]
  const path = 'app.bsky.feed.post/3kzzzzzzzzzz2'
  repo.write([{ path, record: POST }])
  await enqueue(redis, accounts.map(entryOf))
  const before = await world.start()
  const index = await exported(redis, accounts)
  expect(index.contents(did).has(path)).toBe(true)
  await before.stop()

  await redis.flushDb()
  repo.write([{ path, record: null }])
  await noteUntouched(redis, did)
  await enqueue(redis, accounts.map(entryOf))
  await using daemon = await world.start({ BACKFILLER_EXPORTS: 'resync' })
  await exported(redis, accounts, index)
  expect(index.contents(did)).toEqual(accounts[0]!.contents())
  await expect.poll(() => daemon.metric('sluice_backfill_repos_total', { outcome: 'resynced' }), WAIT).toBe(1)
})

test('V2 an account that changed its key since it was last resolved is exported with a single fetch', async ({
  world,
}) => {
  const { redis, network } = world
  const accounts = await accountsOf(network, 1)
  const [account] = accounts as [FakeAccount]
  await enqueue(redis, accounts.map(entryOf))
  await using daemon = await world.start()
  const index = await exported(redis, accounts)
  expect(account.served).toBe(1)

  account.repo.key = testKey('new key')
  account.documentKey = account.repo.key
  account.repo.write([{ path: 'app.bsky.feed.post/3kzzzzzzzzzz2', record: POST }])
  await enqueue(redis, [{ ...entryOf(account), reason: 'gap' }])
  await exported(redis, accounts, index)
  expect(index.contents(account.did)).toEqual(account.contents())
  expect(account.served).toBe(2)
  expect(await daemon.metric('sluice_backfill_retries_total')).toBe(0)
})

test('a host that a rule of BACKFILLER_HOST_RULES names has the limits of that rule', async ({ world }) => {
  const { redis, network } = world
  const [few, many] = [await accountsOf(network, 12), await accountsOf(network, 12)]
  const held = Promise.withResolvers<void>()
  const [ruled, other] = [few[0]!.pds, many[0]!.pds]
  for (const host of [ruled, other]) host.manners.hold = held.promise
  await enqueue(redis, [...few, ...many].map(entryOf))
  await using _ = await world.start({ BACKFILLER_HOST_RULES: `${ruled.host}=2`, BACKFILLER_HOST_CONCURRENCY: '5' })
  await expect.poll(() => other.busiest, WAIT).toBe(5)
  await expect.poll(() => ruled.busiest, WAIT).toBe(2)
  held.resolve()
  await exported(redis, [...few, ...many])
  expect([ruled.busiest, other.busiest]).toEqual([2, 5])
})

test('D7: BACKFILLER_REDIS_MEMORY_PERCENT says how full Redis may be', async ({ world }) => {
  await using server = await startRedis()
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  await using _ = { [Symbol.asyncDispose]: async () => redis.destroy() }
  const accounts = await accountsOf(world.network, 3)
  // Made by the server: what a client sends counts twice for a while.
  await redis.setRange('chains', 9 * 1024 ** 2, ' ')
  await redis.configSet('maxmemory', '64mb')
  await enqueue(redis, accounts.map(entryOf))
  await using daemon = await world.start({ REDIS_URL: server.url(), BACKFILLER_REDIS_MEMORY_PERCENT: '10' })
  const held = () => daemon.metric('sluice_backfill_held_back', { by: 'memory' })
  await expect.poll(held, WAIT).toBe(1)
  expect(await redis.xLen(OUTPUT)).toBe(0)
  await redis.configSet('maxmemory', '256mb')
  await exported(redis, accounts)
})

/** What the group has handed out and nobody has acked; undefined: there is no such group. */
async function pendingOf(redis: Redis, group: string): Promise<number | undefined> {
  const groups = await redis.xInfoGroups(QUEUE).catch(() => [])
  return groups.find(({ name }) => name === group)?.pending
}

/** A backfiller of this group dies with six repositories in hand. Returns their accounts. */
async function dieWithWork(
  world: DaemonWorld,
  env: Record<string, string> & { BACKFILLER_GROUP: string },
): Promise<FakeAccount[]> {
  const { redis, network } = world
  const accounts = await accountsOf(network, 6)
  const held = Promise.withResolvers<void>()
  accounts[0]!.pds.manners.hold = held.promise
  const backfiller = await world.start(env)
  await enqueue(redis, accounts.map(entryOf))
  await expect.poll(() => pendingOf(redis, env.BACKFILLER_GROUP), WAIT).toBe(accounts.length)
  await backfiller.kill()
  held.resolve()
  return accounts
}

test('BACKFILLER_GROUP is what backfillers share: one takes over what another of its group has left', async ({
  world,
}) => {
  const { redis } = world
  const group = { BACKFILLER_GROUP: 'ours', BACKFILLER_RECLAIM_IDLE_MS: '1s' }
  const accounts = await dieWithWork(world, group)
  await using _ = await world.start({ ...group, BACKFILLER_CONSUMER: 'two' })
  await exported(redis, accounts)
  for (const stream of [QUEUE, priorityStream(QUEUE)])
    expect((await redis.xInfoGroups(stream)).map(({ name }) => name)).toEqual(['ours'])
  await expect.poll(() => redis.xLen(QUEUE), WAIT).toBe(0)
  expect(await pendingOf(redis, 'ours')).toBe(0)
})

test('another BACKFILLER_GROUP begins at the beginning: what was taken under the old name and not done is done under the new one', async ({
  world,
}) => {
  const { redis } = world
  const accounts = await dieWithWork(world, { BACKFILLER_GROUP: 'before' })
  await using _ = await world.start({ BACKFILLER_GROUP: 'after' })
  await exported(redis, accounts)
  await expect.poll(() => redis.xLen(QUEUE), WAIT).toBe(0)
  expect(await pendingOf(redis, 'after')).toBe(0)
})
