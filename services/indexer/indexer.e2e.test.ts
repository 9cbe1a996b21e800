import { DatabasePool } from '@sluice/database/pool.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { CreateEvent } from '@sluice/events/stream-event.ts'
import { history } from '@sluice/indexing/testing/history.ts'
import { differences, type Snapshot } from '@sluice/indexing/testing/snapshot.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startPostgres } from '@sluice/sandbox/postgres.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { append, drained, naturalRows, openRedis, rowsOf, startIndexer } from './testing/indexers.ts'

const STREAMS = ['firehose_live', 'firehose_backfill']
const events = history({ seed: 11, events: 500 })

let natural: Promise<Snapshot> | undefined
/** The rows of the natural order; made once, in the database of the first test that asks. */
const expected = (database: string): Promise<Snapshot> => (natural ??= naturalRows(database, events))

test('C1: two indexers on one group, each event delivered on either stream, end with the rows of one', async ({
  database,
  otherDatabase,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  const random = new Random(3)
  const parts = Map.groupBy(random.shuffled([...events, ...events.filter(() => random.chance(0.2))]), () =>
    random.pick(STREAMS),
  )
  const place = { database: otherDatabase, redisUrl }
  await using one = await startIndexer(place, 'one', { INDEXER_BATCH_SIZE: '20' })
  await using two = await startIndexer(place, 'two', { INDEXER_BATCH_SIZE: '20' })
  await Promise.all([...parts].map(([stream, part]) => append(redis, stream, part)))
  await drained(redis, STREAMS)
  // Both had their part, or this test shows nothing.
  expect(await one.metric('sluice_indexer_events_total')).toBeGreaterThan(0)
  expect(await two.metric('sluice_indexer_events_total')).toBeGreaterThan(0)
  expect(differences(await expected(database), await rowsOf(otherDatabase))).toEqual([])
})

test.for(['commit.before@4', 'settle.before@4', 'commit.after@4', 'ack.after@4'])(
  'D3: an indexer killed at %s leaves its entries to another, and nothing is lost or doubled',
  async (point, { database, otherDatabase, redisUrl }) => {
    await using redis = await openRedis(redisUrl)
    await append(redis, 'firehose_live', events)
    const place = { database: otherDatabase, redisUrl }
    await using doomed = await startIndexer(place, 'one', { INDEXER_BATCH_SIZE: '40', SLUICE_CRASH_POINTS: point })
    expect((await doomed.exited).signal).toBe('SIGKILL')
    await using _ = await startIndexer(place, 'two', { INDEXER_BATCH_SIZE: '40' })
    await drained(redis, ['firehose_live'])
    expect(differences(await expected(database), await rowsOf(otherDatabase))).toEqual([])
  },
)

test('V5, D5: bad input stops nothing, is counted with its reason, and its neighbours are indexed', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  const posts = events.filter((event): event is CreateEvent => event.type === 'create').slice(0, 5)
  const post = (text: unknown, rkey: string): CreateEvent => ({
    ...posts[0]!,
    collection: 'app.bsky.feed.post',
    rkey,
    record: { $type: 'app.bsky.feed.post', text, createdAt: '2026-06-01T00:00:00.000Z' },
  })
  const entries: Record<string, string>[] = [
    { event: '{ this is no JSON' },
    { other: 'field' },
    { event: '{"type":"surprise","did":"did:plc:x"}' },
    streamEventCodec.encode(post(42, '3mn6tfhshgx2b')),
    streamEventCodec.encode(post('a NUL \0 in the text', '3mn6tfhshgx2c')),
    streamEventCodec.encode(post('good', '3mn6tfhshgx2d')),
  ]
  for (const entry of entries) await redis.xAdd('firehose_live', '*', entry)
  await using indexer = await startIndexer({ database, redisUrl }, 'one')
  await drained(redis, ['firehose_live'])
  const letters = (await redis.xRange('firehose_live_dlq', '-', '+')) ?? []
  expect(letters.map(({ message }) => message.reason!).toSorted()).toEqual([
    'missing-field',
    'not-an-event',
    'not-json',
  ])
  for (const reason of ['missing-field', 'not-an-event', 'not-json']) {
    expect(await indexer.metric('sluice_stream_dead_letters_total', { stream: 'firehose_live', reason })).toBe(1)
  }
  expect(await indexer.metric('sluice_indexer_refused_records_total', { reason: 'invalid-record' })).toBe(1)
  const rows = await rowsOf(database)
  const texts = rows.post!.map((row) => (JSON.parse(row) as { text: string }).text)
  expect(texts.toSorted()).toEqual(['a NUL  in the text', 'good'])
})

/**
 * Takes the first two batches for the victims of a deadlock. A sequence goes on when its transaction is rolled back.
 */
const DEADLOCKS = `
  create sequence batches;
  create function break_deadlock() returns trigger language plpgsql as $$
    begin
      if nextval('batches') <= 2 then raise exception 'deadlock detected' using errcode = '40P01'; end if;
      return null;
    end $$;
  create trigger break_deadlock before insert on record execute function break_deadlock()`

test('O1: a batch that was the victim of a deadlock is applied again at once, and that is counted', async ({
  database,
  otherDatabase,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  await using db = new DatabasePool({ url: otherDatabase, schema: SCHEMA, size: 1, role: 'test' })
  await db.query(DEADLOCKS)
  await append(redis, 'firehose_live', events)
  await using indexer = await startIndexer({ database: otherDatabase, redisUrl }, 'one')
  await drained(redis, ['firehose_live'])
  expect((await db.query(`select last_value > 2 as fired from batches`)).rows).toEqual([{ fired: true }])
  expect(await indexer.metric('sluice_database_retries_total', { reason: 'deadlock' })).toBe(2)
  expect(await indexer.metric('sluice_indexer_batch_retries_total')).toBe(0)
  expect(differences(await expected(database), await rowsOf(otherDatabase))).toEqual([])
})

test('D5: while PostgreSQL is away the indexer waits, says so, dead-letters nothing, and goes on by itself', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  await using postgres = await startPostgres()
  const own = await postgres.createDatabase('own')
  const place = { database: own, redisUrl }
  await using indexer = await startIndexer(place, 'one', { INDEXER_BATCH_SIZE: '100' })
  await append(redis, 'firehose_live', events.slice(0, 250))
  await drained(redis, ['firehose_live'])
  await postgres.kill('SIGKILL')
  await append(redis, 'firehose_live', events.slice(250))
  await expect.poll(async () => (await indexer.get('/ready')).status, { timeout: 20_000 }).toBe(503)
  expect((await indexer.get('/ready')).body).toContain('postgres')
  expect(await redis.xLen('firehose_live')).toBe(250)
  await postgres.start()
  await drained(redis, ['firehose_live'])
  await expect
    .poll(async () => indexer.get('/ready'), { timeout: 60_000 })
    .toEqual({ status: 200, body: expect.any(String) as string })
  expect(await indexer.metric('sluice_indexer_batch_retries_total')).toBeGreaterThan(0)
  expect(await redis.exists('firehose_live_dlq')).toBe(0)
  expect(differences(await expected(database), await rowsOf(own))).toEqual([])
})
