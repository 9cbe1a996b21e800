/**
 * The failures that the first of these pipelines was measured with (section 3 of its measurements: ghosts, entries
 * pending for ever, lost counters, loss at `maxmemory`, …), each as a test of the real daemons: zero ghosts, zero lost,
 * zero wrong counters.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { httpServer } from '@sluice/atproto/testing/servers.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'
import { append, drained, openRedis, startIndexer } from '@sluice/indexer/testing/indexers.ts'
import { wrongCounters } from '@sluice/indexing/testing/recount.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { countDeadLetters } from '@sluice/streams/dead-letters.ts'
import { create, CREATED_AT, like, person, place, post, remove, update } from './known-events.ts'

const LIVE = 'firehose_live'
const STREAMS = [LIVE, 'firehose_backfill']
const GROUP = 'firehose_group'

test('1: of 2,000 likes, each created and deleted at once, with two indexers, none stays', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  const subject = uriOf(post(person(0), 'liked'))
  const pairs = Array.from({ length: 2_000 }, (_, i) => {
    const liked = like(person(i % 200), `${subject}${i % 7}`)
    return [liked, remove(liked)]
  })
  await using one = await startIndexer({ database, redisUrl }, 'one', { INDEXER_BATCH_SIZE: '50' })
  await using two = await startIndexer({ database, redisUrl }, 'two', { INDEXER_BATCH_SIZE: '50' })
  await append(redis, LIVE, pairs.flat())
  await drained(redis, STREAMS)
  for (const indexer of [one, two]) expect(await indexer.metric('sluice_indexer_events_total')).toBeGreaterThan(0)
  await using index = open(database)
  expect(await count(index, 'record')).toBe(0)
  expect(await count(index, '"like"')).toBe(0)
  expect(await count(index, 'notification')).toBe(0)
  expect(await index.query(`select uri from post_agg where "likeCount" <> 0`)).toMatchObject({ rows: [] })
})

test('2: a live delete, and then the older create from a backfill, leaves no ghost', async ({ database, redisUrl }) => {
  await using redis = await openRedis(redisUrl)
  const made = Array.from({ length: 200 }, (_, i) => like(person(i % 20), `at://${person(0)}/app.bsky.feed.post/a${i}`))
  await using _ = await startIndexer({ database, redisUrl }, 'one')
  await append(redis, LIVE, made.map(remove))
  await drained(redis, STREAMS)
  await append(
    redis,
    'firehose_backfill',
    made.map((event) => ({ ...event, seq: -1 })),
  )
  await drained(redis, STREAMS)
  await using index = open(database)
  expect(await count(index, 'record')).toBe(0)
  expect(await wrong(index)).toEqual([])
})

test('3: no kind of poison stays pending, or holds up a neighbour', async ({ database, redisUrl }) => {
  await using redis = await openRedis(redisUrl)
  const did = person(1)
  const text = (value: unknown): Record<string, unknown> => ({ text: value, createdAt: CREATED_AT })
  const account = (status: string): StreamEvent => {
    return { type: 'account', seq: 1, time: CREATED_AT, did: person(7), active: status === 'throttled', status }
  }
  const events: StreamEvent[] = [
    create(place(did, 'app.bsky.feed.post'), text(42)),
    create(place(did, 'app.bsky.feed.post'), { text: 'when', createdAt: 'yesterday' }),
    post(did, 'a NUL \0 inside'),
    { ...post(did, 'a bad CID'), cid: 'not a cid' },
    create(place(person(99), 'app.bsky.actor.profile'), { displayName: 'nobody knows me' }),
    { type: 'identity', seq: 1, time: CREATED_AT, did: person(98) },
    ...['deleted', 'throttled', 'desynchronized', 'never heard of'].map(account),
    create(place(did, 'com.example.unknown'), { any: 'thing' }),
    create(place(did, 'app.bsky.graph.listitem'), {
      subject: person(2),
      list: `at://${person(3)}/app.bsky.graph.list/3kaaaaaaaaaa2`,
      createdAt: CREATED_AT,
    }),
  ]
  const raw: Record<string, string>[] = [{ event: 'no JSON' }, { event: '{"no":"type"}' }, { strange: 'field' }]
  const neighbours = events.map((_, i) => post(person(2), `neighbour ${i}`))
  await using _ = await startIndexer({ database, redisUrl }, 'one')
  await append(
    redis,
    LIVE,
    events.flatMap((event, i) => [event, neighbours[i]!]),
  )
  for (const entry of raw) await redis.xAdd(LIVE, '*', entry)
  await drained(redis, STREAMS)
  expect(await redis.xPending(LIVE, GROUP)).toMatchObject({ pending: 0 })
  expect((await countDeadLetters(redis, LIVE)).total).toBeGreaterThanOrEqual(raw.length)
  await using index = open(database)
  const texts = await index.query<{ text: string }>(`select text from post where creator = $1`, [person(2)])
  expect(texts.rows.map((row) => row.text).sort()).toEqual(neighbours.map(({ record }) => String(record.text)).sort())
  const { rows } = await index.query<{ text: string }>(
    `select text from post where creator = $1 and text like 'a NUL%'`,
    [did],
  )
  expect(rows).toEqual([{ text: 'a NUL  inside' }])
  expect(await wrong(index)).toEqual([])
})

test('4, 5: an indexer killed three times with work in hand, once for good, loses no record and no counter', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  const subjects = Array.from({ length: 30 }, (_, i) => post(person(i), `post ${i}`))
  const likes = subjects.flatMap((subject) => Array.from({ length: 60 }, (_, i) => like(person(i), uriOf(subject))))
  await append(redis, LIVE, [...subjects, ...likes])
  // The name of a killed one is free again after 10 s; so long the next one dies.
  for (const [consumer, point] of [
    ['one', 'commit.after@3'],
    ['three', 'commit.before@4'],
    ['one', 'settle.before@5'],
  ] as const) {
    await using doomed = await startIndexer({ database, redisUrl }, consumer, {
      INDEXER_BATCH_SIZE: '40',
      SLUICE_CRASH_POINTS: point,
    })
    expect((await doomed.exited).signal).toBe('SIGKILL')
  }
  expect((await redis.xPending(LIVE, GROUP)).pending).toBeGreaterThan(0)
  await using _ = await startIndexer({ database, redisUrl }, 'two')
  await drained(redis, STREAMS)
  expect(await redis.xPending(LIVE, GROUP)).toMatchObject({ pending: 0 })
  await using index = open(database)
  expect(await count(index, 'record')).toBe(subjects.length + likes.length)
  const { rows } = await index.query<{ n: number }>(`select distinct "likeCount"::int as n from post_agg`)
  expect(rows).toEqual([{ n: 60 }])
  expect(await wrong(index)).toEqual([])
})

test('7: 3,000 likes of one post by two indexers at once are 3,000', async ({ database, redisUrl }) => {
  await using redis = await openRedis(redisUrl)
  const subject = post(person(0), 'everybody likes it')
  const likes = Array.from({ length: 3_000 }, (_, i) => like(person(i), uriOf(subject)))
  await using one = await startIndexer({ database, redisUrl }, 'one', { INDEXER_BATCH_SIZE: '50' })
  await using two = await startIndexer({ database, redisUrl }, 'two', { INDEXER_BATCH_SIZE: '50' })
  await append(redis, LIVE, [subject, ...likes])
  await drained(redis, STREAMS)
  for (const indexer of [one, two]) expect(await indexer.metric('sluice_indexer_events_total')).toBeGreaterThan(0)
  await using index = open(database)
  const { rows } = await index.query<{ n: number }>(`select "likeCount"::int as n from post_agg`)
  expect(rows).toEqual([{ n: 3_000 }])
})

test('8: 500 profiles created and changed at the same moment end as changed, and nothing is left pending', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  const profiles = Array.from({ length: 500 }, (_, i) => ({
    ...place(person(i), 'app.bsky.actor.profile'),
    rkey: 'self',
  }))
  const events = profiles.flatMap((at) => [create(at, { displayName: 'before' }), update(at, { displayName: 'after' })])
  await using _ = await startIndexer({ database, redisUrl }, 'one', { INDEXER_BATCH_SIZE: '20' })
  await using __ = await startIndexer({ database, redisUrl }, 'two', { INDEXER_BATCH_SIZE: '20' })
  await append(redis, LIVE, events)
  await drained(redis, STREAMS)
  expect(await redis.exists(`${LIVE}_dlq`)).toBe(0)
  await using index = open(database)
  const { rows } = await index.query(`select "displayName" as name, count(*)::int as n from profile group by 1`)
  expect(rows).toEqual([{ name: 'after', n: 500 }])
})

test('10: of 3,000 commits into a Redis that is full again and again not one is missing', async () => {
  await using server = await startRedis()
  await using relay = await FakeRelay.start()
  const repos = flood(relay, 3_000)
  await using redis = await openRedis(server.url())
  await using _ = await startIngester(relay, server.url())
  const seen = new Set<string>()
  let refused = 0
  for (
    let rounds = 0;
    (await redis.get(cursorOf(relay))) !== String(relay.seq) || (await redis.xLen(LIVE)) > 0;
    rounds++
  ) {
    if (rounds % 5 === 0 && refused < 4) refused += await fullFor(redis, 400)
    for (const entry of await taken(redis, 300)) seen.add(entry)
    await delay(10)
  }
  expect(refused).toBe(4)
  const expected = repos.flatMap(({ did, records }) => [...records.keys()].map((path) => `at://${did}/${path}`))
  expect([...seen].sort()).toEqual(expected.sort())
})

test('11: the high-water mark is overshot by one batch at most, however fast the relay is', async ({ redisUrl }) => {
  await using relay = await FakeRelay.start()
  flood(relay, 3_000)
  await using redis = await openRedis(redisUrl)
  const marks = { INGESTER_FIREHOSE_STREAM_HIGH_WATER_MARK: '500', INGESTER_BATCH_SIZE: '100', INGESTER_PAUSE_MS: '1s' }
  await using _ = await startIngester(relay, redisUrl, marks)
  let most = 0
  let read = 0
  while ((await redis.get(cursorOf(relay))) !== String(relay.seq)) {
    const length = await redis.xLen(LIVE)
    most = Math.max(most, length)
    if (length >= 500) read += (await taken(redis, 300)).length
    await delay(5)
  }
  expect(read).toBeGreaterThan(1_000)
  expect(most).toBeGreaterThanOrEqual(500)
  expect(most).toBeLessThanOrEqual(600)
})

test('14: a directory that never answers holds up no event', async ({ database, redisUrl }) => {
  await using redis = await openRedis(redisUrl)
  await using directory = await httpServer(() => {})
  const env = { INDEXER_HANDLES: 'true', PLC_URL: directory.url, ALLOW_PRIVATE_HOSTS: 'true', SLUICE_DRAIN_MS: '10s' }
  await using _ = await startIndexer({ database, redisUrl }, 'one', env)
  const events = Array.from({ length: 300 }, (_, i): StreamEvent[] => [
    { type: 'identity', seq: i, time: CREATED_AT, did: person(i) },
    { ...create({ ...place(person(i), 'app.bsky.actor.profile'), rkey: 'self' }, { displayName: `${i}` }) },
    post(person(i), 'hello'),
  ])
  await append(redis, LIVE, events.flat())
  await drained(redis, STREAMS)
  await using index = open(database)
  expect(await count(index, 'post')).toBe(300)
  expect(await count(index, 'profile')).toBe(300)
  await expect.poll(() => directory.requests.length, { timeout: 30_000 }).toBeGreaterThan(0)
})

/** Ten repositories, and so many commits of theirs in the relay's log. */
function flood(relay: FakeRelay, commits: number): TestRepo[] {
  const repos = Array.from({ length: 60 }, (_, i) => new TestRepo(person(i)))
  relay.register(...repos)
  for (let i = 0; i < commits; i++) {
    const { collection, rkey } = place('', 'app.bsky.feed.post')
    const record = { $type: collection, text: `commit ${i}`, createdAt: CREATED_AT }
    relay.commit(repos[i % repos.length]!, [{ path: `${collection}/${rkey}`, record }])
  }
  return repos
}

function startIngester(relay: FakeRelay, redisUrl: string, more: Record<string, string> = {}) {
  const env = { REDIS_URL: redisUrl, RELAY_HOSTS: relay.url, PLC_URL: relay.url, INGESTER_MODE: 'firehose' }
  const rest = { INGESTER_INITIAL_CURSOR: '0', ALLOW_PRIVATE_HOSTS: 'true', INGESTER_BATCH_SIZE: '50' }
  return startDaemon({ role: 'ingester', env: { ...env, ...rest, ...more } })
}

function cursorOf({ host }: FakeRelay): string {
  return `${LIVE}:cursor:${host}`
}

/** Takes entries out of the stream, as an indexer would. Returns the URIs. */
async function taken(redis: Redis, most: number): Promise<string[]> {
  const entries = (await redis.xRange(LIVE, '-', '+', { COUNT: most })) ?? []
  if (entries.length > 0)
    await redis.xDel(
      LIVE,
      entries.map(({ id }) => id),
    )
  return entries.map(({ message }) => uriOf(streamEventCodec.decode(message) as Parameters<typeof uriOf>[0]))
}

/** Redis refuses every write for so long. Returns 1 when it did. */
async function fullFor(redis: Redis, ms: number): Promise<number> {
  await redis.configSet('maxmemory', '500kb')
  const refused = await redis.set('probe', 'x').then(
    () => 0,
    (error: unknown) => Number(/OOM/.test(String(error))),
  )
  await delay(ms)
  await redis.configSet('maxmemory', '0')
  return refused
}

function open(url: string): DatabasePool {
  return new DatabasePool({ url, schema: SCHEMA, size: 2, role: 'test' })
}

function wrong(db: DatabasePool): Promise<string[]> {
  return wrongCounters(db, new CollectionSet(collections))
}

async function count(db: DatabasePool, table: string): Promise<number> {
  const { rows } = await db.query<{ n: number }>(`select count(*)::int as n from ${table}`)
  return rows[0]!.n
}
