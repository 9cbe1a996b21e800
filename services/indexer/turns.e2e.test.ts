import { labelEventCodec } from '@sluice/events/codec.ts'
import { uriOf, type CreateEvent } from '@sluice/events/stream-event.ts'
import { history } from '@sluice/indexing/testing/history.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { append, drained, openRedis, startIndexer } from './testing/indexers.ts'

const STREAMS = ['firehose_live', 'firehose_backfill']

test('batches of all streams together are no more than INDEXER_CONCURRENCY, and what waits for its turn takes no connection', async ({
  database,
  redisUrl,
}) => {
  const [first, second] = history({ seed: 12, events: 50 }).filter((event): event is CreateEvent => {
    return event.type === 'create'
  })
  await using redis = await openRedis(redisUrl)
  await using db = new DatabasePool({ url: database, schema: SCHEMA, size: 2, role: 'test' })
  await using indexer = await startIndexer({ database, redisUrl }, 'one', { INDEXER_CONCURRENCY: '1' })
  const holder = await db.acquire()
  try {
    await holder.query('begin; lock table actor_sync')
    await append(redis, STREAMS[0]!, [first!])
    await append(redis, STREAMS[1]!, [second!])
    const sessions = async () =>
      (await db.query(`select wait_event_type as waits from pg_stat_activity where application_name like 'sluice-indexer%' and state <> 'idle'`)).rows // prettier-ignore
    const pending = async () =>
      Promise.all(STREAMS.map(async (stream) => (await redis.xPending(stream, 'firehose_group')).pending))
    await expect.poll(async () => [await pending(), await sessions()]).toEqual([[1, 1], [{ waits: 'Lock' }]])
    // As many as would fit: a second batch would have come by now, or wait for a connection.
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(await sessions()).toEqual([{ waits: 'Lock' }])
    expect(await indexer.metric('sluice_database_connections', { state: 'waiting' })).toBe(0)
  } finally {
    await holder.query('rollback')
    holder.release()
  }
  await drained(redis, STREAMS)
  const { rows } = await db.query(`select uri from record order by uri`)
  expect(rows.map(({ uri }) => uri as string)).toEqual([uriOf(first!), uriOf(second!)].sort())
})

test('a batch that PostgreSQL does not take keeps the other stream of its lane waiting only while it is tried', async ({
  database,
  redisUrl,
}) => {
  const stuck = history({ seed: 12, events: 50 }).find(({ type }) => type === 'create') as CreateEvent
  const other = { ...stuck, did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' }
  await using redis = await openRedis(redisUrl)
  await using db = new DatabasePool({ url: database, schema: SCHEMA, size: 2, role: 'test' })
  await db.query(`
    create function no_room() returns trigger language plpgsql as $$ begin
      raise exception 'no room for %', new.uri using errcode = '53100';
    end $$;
    create trigger no_room before insert on record for each row when (new.did = '${stuck.did}') execute function no_room()`)
  await using indexer = await startIndexer({ database, redisUrl }, 'one', { INDEXER_CONCURRENCY: '1' })
  await append(redis, STREAMS[1]!, [stuck])
  const waits = async () => indexer.metric('sluice_indexer_batch_retries_total')
  // By now the next try is seconds away.
  await expect.poll(waits, { timeout: 30_000 }).toBeGreaterThan(5)
  await append(redis, STREAMS[0]!, [other])
  await drained(redis, [STREAMS[0]!])
  expect(await redis.xLen(STREAMS[1]!)).toBe(1)
  await db.query('drop trigger no_room on record')
  await drained(redis, STREAMS)
  const { rows } = await db.query(`select uri from record order by uri`)
  expect(rows.map(({ uri }) => uri as string)).toEqual([uriOf(stuck), uriOf(other)].sort())
})

test('while an entry that may be killing the indexer is worked on, no batch of another stream is, nor a label', async ({
  database,
  redisUrl,
}) => {
  const suspect = history({ seed: 12, events: 50 }).find(({ type }) => type === 'create') as CreateEvent
  const other = { ...suspect, did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' }
  const label = { src: other.did, uri: other.did, val: 'spam', cts: '2026-01-01T00:00:00.000Z' }
  await using redis = await openRedis(redisUrl)
  await using db = new DatabasePool({ url: database, schema: SCHEMA, size: 2, role: 'test' })
  await append(redis, STREAMS[0]!, [suspect])
  await redis.xGroupCreate(STREAMS[0]!, 'firehose_group', '0')
  await redis.xReadGroup('firehose_group', 'one', { key: STREAMS[0]!, id: '>' })
  const [entry] = await redis.xPendingRange(STREAMS[0]!, 'firehose_group', '-', '+', 1)
  await redis.xClaim(STREAMS[0]!, 'firehose_group', 'one', 0, entry!.id, { RETRYCOUNT: 5 })
  const holder = await db.acquire()
  await holder.query('begin; lock table actor_sync')
  await using _ = await startIndexer({ database, redisUrl }, 'one', { INDEXER_CONCURRENCY: '1' })
  try {
    const batches = async () =>
      (await db.query(`select 1 from pg_stat_activity where application_name like 'sluice-indexer%' and wait_event_type = 'Lock'`)).rows.length // prettier-ignore
    await expect.poll(batches, { timeout: 10_000 }).toBe(1)
    await append(redis, STREAMS[1]!, [other])
    await redis.xAdd('label_live', '*', labelEventCodec.encode({ type: 'label', label }))
    const readers = [[STREAMS[1]!, 'firehose_group'], ['label_live', 'label_group']] as const // prettier-ignore
    const pending = async () =>
      Promise.all(readers.map(async ([stream, group]) => (await redis.xPending(stream, group)).pending))
    await expect.poll(pending, { timeout: 10_000 }).toEqual([1, 1])
    // A label takes some milliseconds, and no lock stands in its way.
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect([await pending(), await batches()]).toEqual([[1, 1], 1])
  } finally {
    await holder.query('rollback')
    holder.release()
  }
  await drained(redis, [...STREAMS, 'label_live'])
})
