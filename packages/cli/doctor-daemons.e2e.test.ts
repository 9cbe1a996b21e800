/**
 * O2: troubles that only daemons at work can have: doctor names each, and nothing more of it once its mend was followed
 * to the letter.
 */
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { retryKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { findingsOf, idsOf } from './testing/doctor.ts'
import { lockTables } from './testing/locked.ts'
import { applyMend } from './testing/mend.ts'
import { runCli } from './testing/run.ts'

const WAIT = { timeout: 60_000, interval: 200 }
const LIVE = 'firehose_live'
const GROUP = 'firehose_group'

async function connected(url: string, stack: AsyncDisposableStack): Promise<Redis> {
  return stack.adopt(await connectRedis({ url, name: 'test' }), (redis) => redis.destroy())
}

/** Accounts of which nothing is known: events of different lanes. */
async function appendAccounts(redis: Redis, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const event = { type: 'account', seq: i, time: '2026-01-01T00:00:00.000Z', did: testDid(`held ${i}`), active: true }
    await redis.xAdd(LIVE, '*', { event: JSON.stringify(event) })
  }
}

test('an entry that is handed out again and again is named as long as it does not get done', async ({ database }) => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis({ maxmemory: '256mb' }))
  const redis = await connected(server.url(), stack)
  const stores = { REDIS_URL: server.url(), DB_POSTGRES_URL: database }
  const start = () => startDaemon({ role: 'indexer', env: { ...stores, INDEXER_CONSUMER: 'one' } })
  const deliveries = async () => (await redis.xPendingRange(LIVE, GROUP, '-', '+', 1))[0]?.deliveriesCounter
  const held = await lockTables(database, ['actor_sync'])
  stack.use(held)
  const first = stack.use(await start())
  await appendAccounts(redis, 1)
  await expect.poll(deliveries, WAIT).toBe(1)
  await first.kill()
  const second = stack.use(await start())
  await expect.poll(deliveries, WAIT).toBe(2)

  const env = { ...stores, SLUICE_DAEMONS: `http://127.0.0.1:${second.port}` }
  const stuck = (await findingsOf(env, ['--lag', '1'])).find(({ id }) => id === 'pending-stuck')
  expect(stuck).toMatchObject({
    severity: 'broken',
    evidence: expect.stringContaining('2 times, now to one') as string,
  })
  // What it names: the log of the indexer, and the entry.
  const listed = await runCli(['pending', 'list', LIVE], env)
  expect(listed).toMatchObject({ code: 0, stdout: expect.stringContaining(testDid('held 0')) as string })
  await held[Symbol.asyncDispose]()
  await expect.poll(() => idsOf(env, ['--lag', '1']), WAIT).toEqual([])
})

test('an indexer whose own pool is too small is named, and the same with more connections is not', async ({
  database,
}) => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis({ maxmemory: '256mb' }))
  const redis = await connected(server.url(), stack)
  const stores = { REDIS_URL: server.url(), DB_POSTGRES_URL: database }
  const start = (size: string) =>
    startDaemon({ role: 'indexer', env: { ...stores, INDEXER_CONSUMER: 'one', DB_POOL_SIZE: size } })
  // One table for the batches of events, one for everything else: of two connections none is left.
  const held = await lockTables(database, ['actor_sync', 'account_check'])
  stack.use(held)
  await appendAccounts(redis, 20)
  const small = stack.use(await start('2'))
  const env = { ...stores, SLUICE_DAEMONS: `http://127.0.0.1:${small.port}` }
  await expect.poll(() => idsOf(env), WAIT).toContain('pool-starved')
  await small.kill()

  const large = stack.use(await start('12'))
  const waiting = { ...stores, SLUICE_DAEMONS: `http://127.0.0.1:${large.port}` }
  await expect.poll(() => idsOf(waiting), WAIT).toContain('lock-waits')
  expect(await idsOf(waiting)).not.toContain('pool-starved')
  await held[Symbol.asyncDispose]()
  await expect.poll(() => idsOf(waiting), WAIT).toEqual([])
})

test('repositories that are due to be tried again, while no backfiller runs, are named; one with a group of its own takes them, and is known by that group', async ({
  database,
}) => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis({ maxmemory: '256mb' }))
  const redis = await connected(server.url(), stack)
  const network = stack.use(await FakeNetwork.start())
  const host = await network.addHost()
  const accounts = Array.from({ length: 12 }, (_, i) =>
    network.addAccount(new TestRepo(testDid(`late ${i}`), { key: testKey('late') }), host),
  )
  for (const { repo } of accounts) repo.write([{ path: 'app.bsky.feed.like/one', record: { $type: 'app.bsky.feed.like' } }]) // prettier-ignore
  const group = { BACKFILLER_GROUP: 'renamed' }
  const stores = { REDIS_URL: server.url(), DB_POSTGRES_URL: database, SLUICE_DAEMONS: '', METRICS_PORT: '0' }
  const env = { ...stores, ...group }
  expect(await idsOf(env)).toEqual([])
  await redis.zAdd(
    retryKey('repo_backfill'),
    accounts.map(({ did, repo }) => {
      const entry = { did, host: host.host, rev: repo.rev, reason: 'listed', attempts: 1, failure: 'unavailable' }
      return { score: Date.now() - 60_000, value: JSON.stringify(entry) }
    }),
  )
  expect(await idsOf(env)).toEqual(['backfill-stalled'])

  await using _ = await startDaemon({
    role: 'backfiller',
    env: { REDIS_URL: server.url(), PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', BACKFILLER_CONSUMER: 'one', ...group }, // prettier-ignore
  })
  await expect.poll(() => accounts.map(({ served }) => served), WAIT).toEqual(accounts.map(() => 1))
  // Nobody reads what it has exported, and that is named now.
  await expect.poll(() => idsOf(env), WAIT).toEqual(['consumer-stopped'])
  const byDefault = (await findingsOf(stores)).filter(({ id }) => id === 'group-unknown')
  expect(byDefault.map(({ what }) => what)).toEqual(
    ['repo_backfill', 'repo_backfill_priority'].map((stream) => `${stream} has a group renamed that is not ours`),
  )
  expect(byDefault[0]!.mend).toContain('correct INDEXER_GROUP, INDEXER_LABEL_GROUP or BACKFILLER_GROUP')
})

test('the group that a renamed one leaves behind is named, and removing it as told ends that', async ({ database }) => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis({ maxmemory: '256mb' }))
  const redis = await connected(server.url(), stack)
  const stores = { REDIS_URL: server.url(), DB_POSTGRES_URL: database, SLUICE_DAEMONS: '', METRICS_PORT: '0' }
  const start = (BACKFILLER_GROUP: string) =>
    startDaemon({
      role: 'backfiller',
      env: { REDIS_URL: server.url(), PLC_URL: 'http://127.0.0.1:1', BACKFILLER_CONSUMER: 'one', BACKFILLER_GROUP },
    })
  const groups = async () => (await redis.xInfoGroups('repo_backfill')).map(({ name }) => name)
  const before = await start('before')
  await expect.poll(() => groups().catch(() => []), WAIT).toEqual(['before'])
  await before.stop()
  stack.use(await start('after'))
  await expect.poll(groups, WAIT).toEqual(['after', 'before'])

  const env = { ...stores, BACKFILLER_GROUP: 'after' }
  await expect.poll(() => idsOf(env), WAIT).toEqual(['group-unknown', 'group-unknown'])
  for (const { mend } of await findingsOf(env)) expect(await applyMend(mend, redis, env), mend).toBe(1)
  expect(await idsOf(env)).toEqual([])
  expect(await groups()).toEqual(['after'])
})
