/**
 * Two shards, each with a Redis server, an ingester, a backfiller and an indexer of its own, and one PostgreSQL: of a
 * real PDS, a directory and a labeler the index holds everything, exactly, and each Redis has only ever known the
 * accounts of its shard.
 */
import { DatabasePool } from '@sluice/database/pool.ts'
import { backfillEventCodec, streamEventCodec } from '@sluice/events/codec.ts'
import { startDaemon, type Daemon, type Role } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork, type Network } from '@sluice/sandbox/network.ts'
import { Population } from '@sluice/sandbox/population.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { readChains } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { isInShard } from '@sluice/streams/spread.ts'

const WAIT = { timeout: 60_000, interval: 100 }
const SHARDS = 2
const STREAMS = ['firehose_live', 'firehose_backfill', 'label_live', 'repo_backfill', 'repo_backfill_priority']

test(
  'two shards on two Redis servers fill one index, and keep to their accounts',
  { timeout: 180_000 },
  async ({ database, emptyDatabase }) => {
    await using network = await startNetwork({ labelerDatabaseUrl: emptyDatabase })
    const people = await Population.create(network, { seed: 8, people: 12, before: 100, during: 80 })
    await people.populate()
    await using stack = new AsyncDisposableStack()
    const db = stack.use(new DatabasePool({ url: database, schema: SCHEMA, size: 2, role: 'test' }))
    const shards = await Promise.all([0, 1].map(async (index) => startShard(index, network, stack)))
    const dids = people.people.map(({ did }) => did)
    // The directory makes other DIDs each time: once in 2,000 times all are in one shard, and this shows nothing.
    for (const { own } of shards) expect(dids.filter(own).length).toBeGreaterThan(0)

    // Before any indexer is there, so that everything that was appended can still be seen.
    for (const { run } of shards) await Promise.all([run('ingester'), run('backfiller')])
    const { host } = new URL(network.pds.url)
    for (const { redis } of shards) {
      await expect.poll(() => redis.get(`repo_backfill:cursor:${host}`), WAIT).toBe('!ingester-done')
      await expect.poll(() => redis.xLen('repo_backfill'), WAIT).toBe(0)
    }
    const traffic = people.traffic()
    for (const { redis } of shards) await expect.poll(() => redis.xLen('firehose_live'), WAIT).toBeGreaterThan(0)
    for (const { redis, own } of shards) {
      const known = await accountsIn(redis)
      expect(known).toEqual(new Set(dids.filter(own)))
    }
    const indexers = await Promise.all(shards.map(({ run }) => run('indexer', { DB_POSTGRES_URL: database })))
    await traffic

    const seq = String(await network.pds.server.ctx.sequencer.curr())
    for (const { redis } of shards) {
      await expect.poll(() => redis.get(`firehose_live:cursor:${host}`), WAIT).toBe(seq)
      await expect.poll(() => lengths(redis), WAIT).toEqual(STREAMS.map(() => 0))
    }
    expect(await recordsIn(db)).toEqual(sorted([...people.records].map(([uri, { cid }]) => `${uri} ${cid}`)))
    await expect.poll(() => labelsIn(db), WAIT).toEqual(sorted([...people.labels].map(([key, { neg }]) => `${key} ${neg ?? false}`))) // prettier-ignore
    await expect
      .poll(() => handlesIn(db), WAIT)
      .toEqual(sorted(people.people.map(({ did, handle }) => `${did} ${handle}`)))
    const { rows } = await db.query(COUNTERS)
    expect(rows).toEqual([{ wrong: 0 }])

    for (const [i, { redis, own }] of shards.entries()) {
      const chains = await readChains(redis, dids)
      expect(dids.filter((_, at) => chains[at] !== undefined)).toEqual(dids.filter(own))
      expect(chains.filter((chain) => chain !== undefined && !chain.record.exported)).toEqual([])
      expect(await redis.exists('firehose_live_dlq')).toBe(0)
      expect(await indexers[i]!.metric('sluice_indexer_events_total')).toBeGreaterThan(0)
    }
  },
)

interface RunningShard {
  redis: Redis
  own: (did: string) => boolean
  run: (role: Role, more?: Record<string, string>) => Promise<Daemon>
}

/** A Redis of its own; the daemons are for the caller to start. All end with the stack. */
async function startShard(index: number, network: Network, stack: AsyncDisposableStack): Promise<RunningShard> {
  const server = stack.use(await startRedis())
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  stack.defer(() => redis.destroy())
  const env = {
    INGESTER_SHARD: `${index}/${SHARDS}`,
    REDIS_URL: server.url(),
    PLC_URL: network.plcUrl,
    RELAY_HOSTS: network.pds.url,
    // Labels are not sharded: one shard reads them all.
    ...(index === 0 && { LABELER_HOSTS: network.labeler.url }),
    INGESTER_INITIAL_CURSOR: '0',
    INGESTER_VERIFY_THREADS: '0',
    INDEXER_COLLECTIONS: 'com.example.*',
    BACKFILLER_CONSUMER: 'one',
    INDEXER_CONSUMER: 'one',
    DB_POSTGRES_SCHEMA: SCHEMA,
    ALLOW_PRIVATE_HOSTS: 'true',
  }
  return {
    redis,
    own: (did) => isInShard(did, { index, of: SHARDS }),
    run: async (role, more = {}) =>
      stack.use(await startDaemon({ role, id: `shard ${index}`, env: { ...env, ...more } })),
  }
}

/** Every account that an entry of this Redis is of. */
async function accountsIn(redis: Redis): Promise<Set<string>> {
  const events = await Promise.all(
    ['firehose_live', 'firehose_backfill'].map((stream) => redis.xRange(stream, '-', '+')),
  )
  const requests = await redis.xRange('repo_backfill', '-', '+')
  return new Set([
    ...events.flatMap((entries) => entries!.map(({ message }) => streamEventCodec.decode(message).did)),
    ...requests!.map(({ message }) => backfillEventCodec.decode(message).did),
  ])
}

const lengths = (redis: Redis): Promise<number[]> => Promise.all(STREAMS.map((stream) => redis.xLen(stream)))

const sorted = (lines: readonly string[]): string[] => lines.toSorted()

async function linesOf(db: DatabasePool, sql: string): Promise<string[]> {
  return sorted((await db.query<{ line: string }>(sql)).rows.map(({ line }) => line))
}

const recordsIn = (db: DatabasePool) => linesOf(db, `select uri || ' ' || cid as line from record`)
const labelsIn = (db: DatabasePool) => linesOf(db, `select uri || ' ' || val || ' ' || neg as line from label`)
const handlesIn = (db: DatabasePool) =>
  linesOf(db, `select did || ' ' || handle as line from actor where handle is not null`)

/** Counters that accounts of both shards moved, against a recount. */
const COUNTERS = `
  select (
    (select count(*) from post_agg a where "likeCount" <> (select count(*) from "like" l where l.subject = a.uri)) +
    (select count(*) from profile_agg a where "followersCount" <> (select count(*) from follow f where f."subjectDid" = a.did))
  )::int as wrong`
