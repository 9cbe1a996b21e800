/** D3, C5: what batches put off is settled soon after by whichever indexer lives. */
import type { DatabasePool } from '@sluice/database/pool.ts'
import { uriOf, type RecordEvent } from '@sluice/events/stream-event.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { differences, snapshot } from '@sluice/indexing/testing/snapshot.ts'
import { Story } from '@sluice/indexing/testing/story.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import type { Daemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { LaterSettling } from './settle-later.ts'
import { append, drained, openRedis, rowsOf, startIndexer, type Place } from './testing/indexers.ts'

const LIVE = 'firehose_live'
const poll = { timeout: 30_000, interval: 50 }

const story = new Story()
const root = story.post('ann', 'root')
/** More than one transaction judges, and than a batch does. */
const replies = Array.from({ length: 1_500 }, (_, n) => story.reply(`bob${n % 50}`, root))

async function naturally(url: string): Promise<ReturnType<typeof snapshot>> {
  await using index = indexOn(url)
  const events: RecordEvent[] = [root, ...replies]
  await applyBatch(index, events)
  return await snapshot(index.db)
}

async function count(db: DatabasePool, what: string): Promise<number> {
  const { rows } = await db.query<{ n: number }>(`select count(*)::int as n from ${what}`)
  return rows[0]!.n
}

test.for([
  ['settle.before', 0],
  ['commit.after', 1],
] as const)(
  'D3 an indexer killed at %s of a batch that has more to settle than it does itself leaves all of it to the next',
  async ([point, waiting], { database, otherDatabase, redisUrl }) => {
    await using redis = await openRedis(redisUrl)
    await using index = indexOn(database)
    await applyBatch(index, replies)
    await using doomed = await startIndexer({ database, redisUrl }, 'one', { SLUICE_CRASH_POINTS: point })
    await append(redis, LIVE, [root])
    expect((await doomed.exited).signal).toBe('SIGKILL')
    expect(await count(index.db, 'settle_later')).toBe(waiting)
    expect(await count(index.db, 'post where "invalidReplyRoot"')).toBe(replies.length)
    await using next = await startIndexer({ database, redisUrl }, 'two')
    await drained(redis, [LIVE])
    await expect.poll(() => count(index.db, 'settle_later'), poll).toBe(0)
    expect(await next.metric('sluice_settled_later_total')).toBe(replies.length)
    expect(differences(await naturally(otherDatabase), await rowsOf(database))).toEqual([])
  },
)

const INVALID = 'post where "invalidReplyRoot"'

/** An indexer is at work on what was put off, and has got as far as this reply. */
async function whileSettling(
  { database, redisUrl }: Place,
  reply: string,
  end: (indexer: Daemon, db: DatabasePool) => Promise<void>,
): Promise<void> {
  await using index = indexOn(database)
  await applyBatch(index, replies)
  await applyBatch(index, [root])
  expect(await count(index.db, 'settle_later')).toBe(1)
  const holder = await index.db.acquire()
  await holder.query('begin')
  await holder.query('select from post where uri = $1 for update', [reply])
  await using indexer = await startIndexer({ database, redisUrl }, 'one')
  const waits = `pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
  await expect.poll(() => count(index.db, waits), poll).toBe(1)
  await end(indexer, index.db)
  await holder.query('rollback')
  holder.release()
  if (indexer.isRunning) expect((await indexer.exited).code).toBe(0)
}

test('D3 an indexer killed while it settles what was put off leaves it to another, to whom it is due when the claim ends', async ({
  database,
  otherDatabase,
  redisUrl,
}) => {
  const last = replies.map(uriOf).sort().at(-1)!
  await whileSettling({ database, redisUrl }, last, async (indexer, db) => {
    await indexer.kill()
    // Some of it was done.
    expect(await count(db, INVALID)).toBeGreaterThan(0)
    expect(await count(db, INVALID)).toBeLessThan(replies.length)
  })
  await using index = indexOn(database)
  const due = `settle_later where "dueAt" <= '${new Date().toISOString()}'`
  expect([await count(index.db, 'settle_later'), await count(index.db, due)]).toEqual([1, 0])
  await index.db.query('update settle_later set "dueAt" = $1', [new Date().toISOString()])
  await using _ = await startIndexer({ database, redisUrl }, 'two')
  await expect.poll(() => count(index.db, 'settle_later'), poll).toBe(0)
  expect(differences(await naturally(otherDatabase), await rowsOf(database))).toEqual([])
})

test('C5 a claim is held for as long as the work on it takes, so that nobody begins it again', async ({ database }) => {
  await using index = indexOn(database)
  await applyBatch(index, replies)
  await applyBatch(index, [root])
  const claimMs = 600
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const log = createLogger({ role: 'test', build: 'test', level: 'fatal' })
  const stop = new AbortController()
  const held = async (): Promise<{ ms: number; tries: number }> => {
    const { rows } = await index.db.query<{ dueAt: string; claim: string | null; tries: string }>(
      'select "dueAt", claim, tries from settle_later',
    )
    const [row] = rows
    return { ms: row?.claim ? Date.parse(row.dueAt) - Date.parse(row.claim) : 0, tries: Number(row?.tries) }
  }
  const holder = await index.db.acquire()
  await holder.query('begin')
  await holder.query('select from post where uri = $1 for update', [uriOf(replies[0]!)])
  const settling = new LaterSettling({ index, log, metrics, pollMs: 20, claimMs }).run(stop.signal)
  try {
    await expect.poll(async () => (await held()).ms, poll).toBeGreaterThan(3 * claimMs)
    expect((await held()).tries).toBe(1)
  } finally {
    await holder.query('rollback')
    holder.release()
  }
  await expect.poll(() => count(index.db, 'settle_later'), poll).toBe(0)
  expect(await count(index.db, INVALID)).toBe(0)
  stop.abort()
  await settling
})

test('D9 an indexer that is stopped while it settles what was put off gives it back, due at once', async ({
  database,
  otherDatabase,
  redisUrl,
}) => {
  const [first] = replies.map(uriOf).sort()
  await whileSettling({ database, redisUrl }, first!, (indexer) => indexer.kill('SIGTERM'))
  await using index = indexOn(database)
  const due = `settle_later where claim is null and since = '' and "dueAt" <= '${new Date().toISOString()}'`
  expect(await count(index.db, due)).toBe(1)
  await using _ = await startIndexer({ database, redisUrl }, 'two')
  await expect.poll(() => count(index.db, 'settle_later'), poll).toBe(0)
  expect(differences(await naturally(otherDatabase), await rowsOf(database))).toEqual([])
})
