/**
 * A2: only a confirmed deletion purges; "nobody answers" and "still there" do not; a process that dies in between
 * leaves it to the next.
 */
import { httpServer, json } from '@sluice/atproto/testing/servers.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import type { CreateEvent } from '@sluice/events/stream-event.ts'
import { applyBatch, type Index } from '@sluice/indexing/apply-batch.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { whileHeld } from '@sluice/indexing/testing/while-held.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { readChains, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import { shardOf } from '@sluice/streams/spread.ts'
import {
  account,
  deletedAt,
  did,
  events,
  poll,
  scene,
  startWorld,
  STREAM,
  type Says,
} from './testing/deletion-scene.ts'
import { openRedis, startIndexer } from './testing/indexers.ts'

const signal = new AbortController().signal

test('A2 nothing is purged while nobody can be asked; then everything, and the chain begins anew', async ({
  database,
  redisUrl,
}) => {
  await using it = await scene(database, redisUrl)
  const before = await it.records()
  expect(before).toBeGreaterThan(5)
  await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
  await expect
    .poll(() => it.world.server.requests.filter((path) => path.startsWith('/xrpc/')).length, poll)
    .toBeGreaterThan(2)
  expect([await it.records(), await it.status()]).toEqual([before, [{ upstreamStatus: 'deleted' }]])
  it.world.says = 'gone'
  await expect.poll(it.status, poll).toEqual([])
  expect(await it.records()).toBe(0)
  await expect
    .poll(async () => (await readChains(it.redis, [did]))[0]?.record, poll)
    .toEqual({ ...UNKNOWN_CHAIN, inactive: true })

  // It comes back: its repository is asked for, and what that holds is indexed, though its revs are those of before.
  await applyBatch(it.index, [account('2026-09-01T00:00:00.000Z', true)])
  await expect.poll(it.requested, poll).toEqual([{ did, host: '', rev: '', reason: 'reactivated' }])
  await expect.poll(async () => (await it.index.db.query('select from account_deletion')).rowCount, poll).toBe(0)
  await applyBatch(it.index, events)
  expect([await it.records(), await it.status()]).toEqual([before, [{ upstreamStatus: null }]])
})

test('A2 a host that leads in a circle is one that does not answer, and ends nobody', async ({
  database,
  redisUrl,
}) => {
  await using it = await scene(database, redisUrl)
  it.world.says = 'elsewhere'
  await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
  await expect.poll(it.tries, poll).toBeGreaterThan(2)
  expect(await it.records()).toBeGreaterThan(5)
  it.world.says = 'gone'
  await expect.poll(it.records, poll).toBe(0)
})

test('A2 a purge waits for the end of a first load', async ({ database, redisUrl }) => {
  await using it = await scene(database, redisUrl)
  it.world.says = 'gone'
  await it.index.db.query(`insert into bulk_load (id, phase, "startedAt") values (1, 'loading', '')`)
  await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
  await expect.poll(it.isPutOff, poll).toBe(true)
  expect(await it.records()).toBeGreaterThan(5)
  await it.index.db.query('delete from bulk_load')
  await expect.poll(it.records, poll).toBe(0)
})

test.for<[Says, string | null]>([
  ['active', null],
  ['deactivated', 'deactivated'],
  ['unreadable', 'deactivated'],
  // It has the repository, and cannot say how the account stands.
  ['old', null],
])(
  'A2 a deletion that is not so (its host says %s) is taken back',
  async ([says, upstreamStatus], { database, redisUrl }) => {
    await using it = await scene(database, redisUrl)
    const before = await it.records()
    it.world.says = says
    await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
    await expect.poll(it.status, poll).toEqual([{ upstreamStatus }])
    await expect.poll(async () => (await it.index.db.query('select from account_deletion')).rowCount, poll).toBe(0)
    expect(await it.records()).toBe(before)
    // The same old word again.
    await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
    expect(await it.status()).toEqual([{ upstreamStatus }])
  },
)

test('A2 a deletion that is dated ahead of our clock is taken back by the word of its host all the same', async ({
  database,
  redisUrl,
}) => {
  await using it = await scene(database, redisUrl)
  it.world.says = 'active'
  const ahead = new Date(Date.now() + 3_600_000).toISOString()
  await applyBatch(it.index, [account(ahead, false, 'deleted')])
  await expect.poll(it.status, poll).toEqual([{ upstreamStatus: null }])
  expect(await it.records()).toBeGreaterThan(5)
})

test('A2 a host whose answer the index does not take is one that does not answer, and ends nobody', async ({
  database,
  redisUrl,
}) => {
  await using it = await scene(database, redisUrl)
  it.world.says = 'disliked'
  await it.index.db.query(`alter table actor add constraint taste check ("upstreamStatus" <> 'disliked')`)
  await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
  await expect.poll(it.tries, poll).toBeGreaterThan(2)
  expect(await it.status()).toEqual([{ upstreamStatus: 'deleted' }])
  await it.index.db.query('alter table actor drop constraint taste')
  await expect.poll(it.status, poll).toEqual([{ upstreamStatus: 'disliked' }])
})

test('A2 an account of another shard is left to the indexers that have its chain', async ({ database, redisUrl }) => {
  const own = { index: shardOf(did, 2), of: 2 }
  const nowhere = { index: 1 - own.index, of: 2 }
  {
    await using it = await scene(database, redisUrl, { shard: nowhere })
    it.world.says = 'gone'
    await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
    await expect.poll(it.isPutOff, poll).toBe(true)
    expect(await it.records()).toBeGreaterThan(0)
    const [chain] = await readChains(it.redis, [did])
    expect(chain?.record).toMatchObject({ exported: true, rev: events[0]!.rev })
    await it.redis.flushDb()
  }
  await using it = await scene(database, redisUrl, { shard: own })
  it.world.says = 'gone'
  await expect.poll(it.records, poll).toBe(0)
  await expect.poll(async () => (await readChains(it.redis, [did]))[0]?.record.exported, poll).toBe(false)
})

test('D3 an indexer killed in the middle of a purge leaves the rest to the next one', async ({
  database,
  redisUrl,
}) => {
  const world = await startWorld()
  await using _ = world.server
  world.says = 'gone'
  const env = { PLC_URL: world.server.url, ALLOW_PRIVATE_HOSTS: 'true', INDEXER_HANDLES: 'false' }
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  const like = events.find((event): event is CreateEvent => event.type === 'create' && event.did === did)!
  const many = Array.from({ length: 700 }, (_, i): CreateEvent => ({
    ...like,
    rkey: `3k${String(i).padStart(11, '2')}`,
  }))
  await applyBatch(index, many)
  const left = async (): Promise<number> => (await db.query('select from record where did = $1', [did])).rowCount!
  await using doomed = await startIndexer({ database, redisUrl }, 'one', {
    ...env,
    SLUICE_CRASH_POINTS: 'purge.between@1',
  })
  await applyBatch(index, [account(deletedAt, false, 'deleted')])
  expect((await doomed.exited).signal).toBe('SIGKILL')
  expect(await left()).toBeLessThan(700)
  expect(await left()).toBeGreaterThan(0)
  // Its claim ends.
  await db.query(`update account_deletion set "dueAt" = '2026'`)
  await using next = await startIndexer({ database, redisUrl }, 'two', env)
  await expect.poll(left, poll).toBe(0)
  await expect.poll(() => next.metric('sluice_account_deletions_total', { outcome: 'purged' }), poll).toBe(1)
})

test('D3 an indexer killed before the request for the repository of a returned account is durable leaves it to the next one', async ({
  database,
  redisUrl,
}) => {
  const world = await startWorld()
  await using _ = world.server
  const env = { PLC_URL: world.server.url, ALLOW_PRIVATE_HOSTS: 'true', INDEXER_HANDLES: 'false' }
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  await using redis = await openRedis(redisUrl)
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  await applyBatch(index, [account(deletedAt, false, 'deleted')])
  // The deletion was carried out.
  await db.query(`update account_deletion set state = 'purged'`)
  await using doomed = await startIndexer({ database, redisUrl }, 'one', {
    ...env,
    SLUICE_CRASH_POINTS: 'append.before@1',
  })
  await applyBatch(index, [account('2026-09-01T00:00:00.000Z', true)])
  expect((await doomed.exited).signal).toBe('SIGKILL')
  expect(await redis.xLen(STREAM)).toBe(0)
  // Its claim ends.
  expect((await db.query(`update account_deletion set "dueAt" = '2026' where state = 'returned'`)).rowCount).toBe(1)
  await using _next = await startIndexer({ database, redisUrl }, 'two', env)
  await expect.poll(() => redis.xLen(STREAM), poll).toBe(1)
  await expect.poll(async () => (await db.query('select from account_deletion')).rowCount, poll).toBe(0)
})

test('A4 the directory that the operator names may be at a private address', async ({ database, redisUrl }) => {
  await using directory = await httpServer((_, response) =>
    json(response, { message: `DID not available: ${did}` }, 410),
  )
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  await applyBatch(index, [account(deletedAt, false, 'deleted')])
  await using indexer = await startIndexer({ database, redisUrl }, 'one', { PLC_URL: directory.url })
  await expect.poll(() => indexer.metric('sluice_account_deletions_total', { outcome: 'purged' }), poll).toBe(1)
  expect(directory.requests).toContain(`/${did}`)
})

test('D9 a stop while PostgreSQL takes no writes is no failure: a claim ends by the clock', async ({
  database,
  redisUrl,
}) => {
  await using it = await scene(database, redisUrl)
  const url = `${database}?options=-c%20default_transaction_read_only%3Don`
  await using db = new DatabasePool({ url, schema: 'bsky', size: 2, role: 'test' })
  const service = it.serviceOn({ ...it.index, db })
  await expect(service.run(signal)).rejects.toThrow('read-only')

  const stopping = new AbortController()
  await whileHeld(it.index, ['lock table account_deletion in access exclusive mode'], async (waiting) => {
    const running = service.run(stopping.signal)
    // Its claim is under way, and that of the one which is at work beside it.
    await waiting(2)
    stopping.abort()
    return [expect(running).resolves.toBeUndefined()]
  })
})
