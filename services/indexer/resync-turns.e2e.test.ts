import type { CreateEvent, RepoEvent } from '@sluice/events/stream-event.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { Story } from '@sluice/indexing/testing/story.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { append, drained, openRedis, startIndexer } from './testing/indexers.ts'

const [LIVE, BACKFILL] = ['firehose_live', 'firehose_backfill']

/** Four parts of what one transaction removes. */
const RECORDS = 8_000

/** So many records of an account. What removes number 1,000 waits for the lock 1, number 7,000 for the lock 7. */
async function fill(db: DatabasePool, did: string): Promise<void> {
  await db.query(
    `insert into record (uri, cid, did, json, "indexedAt", rev)
    select 'at://' || $1 || '/com.example.note/' || lpad(n::text, 6, '0'), 'bafy', $1, '{}', '2026-01-01T00:00:00.000Z', '3aaaaaaaaaaaa'
    from generate_series(1, $2::int) as n`,
    [did, RECORDS],
  )
  await db.query(`
    create function wait_for_lock() returns trigger language plpgsql as $$ begin
      perform pg_advisory_xact_lock(right(old.uri, 6)::int / 1000);
      return old;
    end $$;
    create trigger wait_for_lock before delete on record for each row when (right(old.uri, 6) in ('001000', '007000')) execute function wait_for_lock()`)
}

test('live events are applied between two parts of a resync that empties a repository of their lane', async ({
  database,
  redisUrl,
}) => {
  const story = new Story()
  const { did, time, commit, rev }: CreateEvent = story.post('ann', 'only its rev counts')
  const emptied: RepoEvent = { type: 'repo', time, did, commit, rev, range: ['', ''], keys: [] }
  await using redis = await openRedis(redisUrl)
  await using db = new DatabasePool({ url: database, schema: SCHEMA, size: 2, role: 'test' })
  await fill(db, did)
  await using _ = await startIndexer({ database, redisUrl }, 'one', { INDEXER_CONCURRENCY: '1' })
  const holder = await db.acquire()
  try {
    await holder.query('select pg_advisory_lock(1), pg_advisory_lock(7)')
    await append(redis, BACKFILL, [emptied])
    const waiting = async (): Promise<number> =>
      (await db.query(`select from pg_locks where locktype = 'advisory' and not granted`)).rowCount!
    await expect.poll(waiting, { timeout: 20_000 }).toBe(1)
    await append(redis, LIVE, [story.post('bob', 'live'), story.post('ann', 'live')])
    await expect.poll(async () => (await redis.xPending(LIVE, 'firehose_group')).pending, { timeout: 10_000 }).toBe(2)
    await holder.query('select pg_advisory_unlock(1)')
    await drained(redis, [LIVE], 20_000)
    expect(await redis.xLen(BACKFILL)).toBe(1)
  } finally {
    await holder.query('select pg_advisory_unlock_all()')
    holder.release()
  }
  await drained(redis, [BACKFILL])
  const { rows } = await db.query('select json::jsonb ->> $1 as text from record', ['text'])
  expect(rows).toEqual([{ text: 'live' }, { text: 'live' }])
})
