/**
 * C6: after a resync the index equals the repository. Backfiller and indexer as they run, on a real Redis and a real
 * Postgres.
 *
 * The fetch is held at its last byte while live events happen, so "during the fetch" does not depend on a clock. Half
 * of the live events are indexed before the export is, half after it.
 */
import { formatCid } from '@sluice/atproto/cid.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { Random } from '@sluice/sandbox/random.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { enqueue, OUTPUT, QUEUE } from './testing/queue-view.ts'
import { recordOf, records } from './testing/records.ts'

const REPOS = Number(process.env.REPOS ?? 8)
const LIVE = 'firehose_live'
/** Tables of the collections that these repositories have: one row a record. */
const TABLES = {
  'app.bsky.feed.like': 'like',
  'app.bsky.feed.post': 'post',
  'app.bsky.graph.follow': 'follow',
} as const

test('C6: records created, updated and deleted while we were away, and live during the fetch, are all as in the repository', async ({
  redisUrl,
  database,
}) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
  console.log(`seed ${seed}`)
  const random = new Random(seed)
  await using network = await FakeNetwork.start()
  const pds = await network.addHost()
  const accounts = Array.from({ length: REPOS }, (_, i) => {
    const repo = new TestRepo(testDid(`resync ${seed} ${i}`), { key: testKey(`resync ${i}`) })
    repo.write(records(random, i === 0 ? 0 : random.below(1_800)))
    return network.addAccount(repo, pds)
  })
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    const env = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true' }
    await using backfiller = await startDaemon({ role: 'backfiller', env: { ...env, BACKFILLER_CONSUMER: 'one' } })
    await using _ = await startDaemon({
      role: 'indexer',
      env: { ...env, INDEXER_CONSUMER: 'one', INDEXER_HANDLES: 'false', DB_POSTGRES_URL: database },
    })
    const indexed = (): Promise<number> => untilEmpty(redis, [QUEUE, OUTPUT, LIVE])

    await enqueue(
      redis,
      accounts.map((account) => entryOf(account, 'listed')),
    )
    await indexed()
    expect(await wrong(database, accounts)).toEqual([])

    const resynced = (): Promise<number> => backfiller.metric('sluice_backfill_repos_total', { outcome: 'resynced' })
    const resyncedBefore = await resynced()

    // Away: nobody tells of these.
    const away = accounts.map(({ repo }) => change(repo, random, 300))
    expect(await wrong(database, accounts)).not.toEqual([])
    const held = Promise.withResolvers<void>()
    pds.manners.hold = held.promise
    const servedBefore = accounts.map(({ served }) => served)
    await enqueue(
      redis,
      accounts.map((account) => entryOf(account, 'gap')),
    )
    await expect
      .poll(() => accounts.every(({ served }, i) => served > servedBefore[i]!), { timeout: 30_000 })
      .toBe(true)

    // Live during the fetch: the export does not know of these. And some of what we missed comes after all.
    const live = accounts.flatMap(({ repo }) => [0, 1, 2, 3].map(() => change(repo, random, 40)))
    const commits = random.shuffled([...live, ...away])
    const half = Math.floor(commits.length / 2)
    await append(redis, commits.slice(0, half).flat())
    await untilEmpty(redis, [LIVE])
    expect(await resynced(), 'all are held').toBe(resyncedBefore)
    held.resolve()
    await untilEmpty(redis, [QUEUE, OUTPUT])
    await append(redis, commits.slice(half).flat())
    await indexed()

    expect(await resynced()).toBe(resyncedBefore + REPOS)
    expect(await wrong(database, accounts)).toEqual([])
  } finally {
    redis.destroy()
  }
})

function entryOf({ did, pds, repo }: FakeAccount, reason: 'listed' | 'gap') {
  return { did, host: pds.host, rev: repo.rev, reason }
}

/** One commit of creations, updates and deletions, and the events that a live stream would make of it. */
function change(repo: TestRepo, random: Random, count: number): StreamEvent[] {
  const paths = random.shuffled([...repo.records.keys()])
  const touched = paths.slice(0, Math.min(count, Math.floor(paths.length / 2)))
  const changes = touched.map((path): Write => {
    const record = random.chance(0.5) ? null : recordOf(path.split('/')[0]!, random)
    return { path, record }
  })
  const writes = [...changes, ...records(random, 1 + random.below(count))]
  const { body } = repo.write(writes)
  const commit = formatCid(repo.commit!)
  return writes.map(({ path, record }, i): StreamEvent => {
    const [collection = '', rkey = ''] = path.split('/')
    const { action, cid } = body.ops[i]!
    const base = { seq: body.seq, time: body.time, did: repo.did, commit, rev: repo.rev, collection, rkey }
    if (record === null) return { type: 'delete', ...base }
    return { type: action === 'create' ? 'create' : 'update', ...base, cid: cid!.$link, record }
  })
}

async function append(redis: Redis, events: readonly StreamEvent[]): Promise<void> {
  await Promise.all(events.map((event) => redis.xAdd(LIVE, '*', streamEventCodec.encode(event))))
}

async function untilEmpty(redis: Redis, streams: readonly string[]): Promise<number> {
  const left = async (): Promise<number> => {
    const lengths = await Promise.all(streams.map((stream) => redis.xLen(stream)))
    return lengths.reduce((sum, length) => sum + length, 0)
  }
  await expect.poll(left, { timeout: 60_000, interval: 20 }).toBe(0)
  return left()
}

/** Where the index is not what the repositories are. */
async function wrong(database: string, accounts: readonly FakeAccount[]): Promise<string[]> {
  const wanted = new Map(
    accounts.flatMap((account) => [...account.contents()].map(([path, cid]) => [`at://${account.did}/${path}`, cid])),
  )
  const found = await queryOnce<{ uri: string; cid: string }>(database, 'SELECT uri, cid FROM bsky.record')
  const problems = differences('record', new Map(found.map(({ uri, cid }) => [uri, cid])), wanted)
  for (const [collection, table] of Object.entries(TABLES)) {
    const rows = await queryOnce<{ uri: string; cid: string }>(database, `SELECT uri, cid FROM bsky."${table}"`)
    const those = new Map([...wanted].filter(([uri]) => uri.includes(`/${collection}/`)))
    problems.push(...differences(table, new Map(rows.map(({ uri, cid }) => [uri, cid])), those))
  }
  return problems.slice(0, 20)
}

function differences(table: string, found: ReadonlyMap<string, string>, wanted: ReadonlyMap<string, string>): string[] {
  const missing = [...wanted].filter(([uri, cid]) => found.get(uri) !== cid)
  const extra = [...found].filter(([uri]) => !wanted.has(uri))
  return [
    ...missing.map(([uri]) => `${table}: ${uri} is missing or another`),
    ...extra.map(([uri]) => `${table}: ${uri} should not be there`),
  ]
}
