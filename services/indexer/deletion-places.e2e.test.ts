/**
 * A2: deletions that nobody confirms keep out no others, nor who is back; and an account that is back waits for no
 * backfill.
 */
import { httpServer, json } from '@sluice/atproto/testing/servers.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { applyBatch, type Index } from '@sluice/indexing/apply-batch.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { account, deletedAt, did, poll, scene, STREAM } from './testing/deletion-scene.ts'
import { openRedis, startIndexer } from './testing/indexers.ts'

const OTHERS = Array.from({ length: 8 }, (_, i) => `did:plc:${'abcdefgh'[i]!.repeat(24)}`)
const reported = OTHERS.map((other) => account(deletedAt, false, 'deleted', other))
const backAt = new Date(Date.parse(deletedAt) + 1_000).toISOString()

test('A2 while a host is silent about eight deletions that it has not confirmed before, another one is confirmed and carried out', async ({
  database,
  redisUrl,
}) => {
  await using it = await scene(database, redisUrl)
  await applyBatch(it.index, reported)
  const failing = async (): Promise<number | null> =>
    (await it.index.db.query('select from account_deletion where tries > 0')).rowCount
  await expect.poll(failing, poll).toBe(OTHERS.length)
  it.world.says = 'later'
  await expect.poll(() => it.world.later.length, poll).toBeGreaterThan(0)
  it.world.says = 'gone'
  await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
  await expect.poll(it.records, poll).toBe(0)
})

test('A2 while a host is silent about as many deletions as are looked at, who is back is asked for', async ({
  database,
  redisUrl,
}) => {
  await using it = await scene(database, redisUrl)
  it.world.says = 'gone'
  await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
  await expect.poll(it.status, poll).toEqual([])
  it.world.says = 'later'
  await applyBatch(it.index, reported)
  await expect.poll(() => it.world.later.length, poll).toBeGreaterThan(2)
  await applyBatch(it.index, [account(backAt, true)])
  await expect.poll(it.requested, poll).toEqual([{ did, host: '', rev: '', reason: 'reactivated' }])
})

test('A2 what came in after the question is newer than its answer', async ({ database, redisUrl }) => {
  await using it = await scene(database, redisUrl)
  it.world.says = 'later'
  await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
  await expect.poll(() => it.world.later.length, poll).toBe(1)
  const activatedAt = new Date(Math.max(Date.now(), Date.parse(backAt)) + 1).toISOString()
  await applyBatch(it.index, [account(activatedAt, true)])
  await expect.poll(() => new Date().toISOString() > activatedAt, poll).toBe(true)
  it.world.later[0]!('deactivated')
  await expect.poll(() => it.outcomes('hosted'), poll).toBe(1)
  expect(await it.status()).toEqual([{ upstreamStatus: null }])
})

test('A2 who is back is asked for though a first load keeps the stream of repositories full, and others are purged meanwhile', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  const queued = JSON.stringify({ did: OTHERS[0], host: '', rev: '' })
  const fill = `for _ = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'repo', ARGV[1]) end`
  await redis.eval(fill, { keys: [STREAM], arguments: [queued] })
  await using directory = await httpServer((request, response) => {
    const asked = request.url!.slice(1)
    // Of who is back it says nothing: that they are not gone is not what this is about.
    if (asked === did) return void response.writeHead(503).end()
    json(response, { message: `DID not available: ${asked}` }, 410)
  })
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  await applyBatch(index, [account(deletedAt, false, 'deleted')])
  await applyBatch(index, [account(backAt, true)])
  await using indexer = await startIndexer({ database, redisUrl }, 'one', { PLC_URL: directory.url })
  const outcome = (of: string) => indexer.metric('sluice_account_deletions_total', { outcome: of })
  await expect.poll(() => outcome('returned'), poll).toBe(1)
  const [last] = (await redis.xRevRange(STREAM, '+', '-', { COUNT: 1 }))!
  expect(JSON.parse(last!.message.repo!)).toEqual({ did, host: '', rev: '', reason: 'reactivated' })
  await applyBatch(index, reported)
  await expect.poll(() => outcome('purged'), poll).toBe(OTHERS.length)
})
