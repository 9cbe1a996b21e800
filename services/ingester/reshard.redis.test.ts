/**
 * The number of shards can change, as docs/operations.md says: by copies without fetching anything anew, otherwise by
 * what the chain asks for.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { backfillEventCodec, streamEventCodec } from '@sluice/events/codec.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis, type Redis as RedisServer } from '@sluice/sandbox/redis.ts'
import { chainAddress } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { isInShard } from '@sluice/streams/spread.ts'
import { shardKey } from './shard-claim.ts'
import { envOf, test, TestIngester, WAIT } from './testing/run.ts'

const KEYS = ['firehose_live', 'repo_backfill'].map(shardKey)
let number = 0
const post = (): Write => ({
  path: `app.bsky.feed.post/r${number++}`,
  record: { $type: 'app.bsky.feed.post', text: 'hello', createdAt: '2026-01-01T00:00:00.000Z' },
})

/** A relay with accounts of both shards of two, and a folder for the files of Redis. */
async function stage() {
  const stack = new AsyncDisposableStack()
  const relay = stack.use(await FakeRelay.start())
  const repos = Array.from({ length: 16 }, (_, i) => new TestRepo(testDid(`reshard ${i}`)))
  relay.register(...repos)
  const dir = mkdtempSync(join(tmpdir(), 'sluice-reshard-'))
  stack.defer(() => rmSync(dir, { recursive: true, force: true }))
  const commit = (): void => repos.forEach((repo) => void relay.commit(repo, [post()]))
  const ofShard = (index: number): TestRepo[] => repos.filter(({ did }) => isInShard(did, { index, of: 2 }))
  for (const index of [0, 1]) expect(ofShard(index).length).toBeGreaterThan(2)
  return { relay, dir, commit, ofShard, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

/** Runs an ingester until it has read everything. */
async function readAll(server: RedisServer, relay: FakeRelay, shard: string): Promise<TestIngester> {
  await using redis = await open(server)
  const ingester = await TestIngester.start({ ...envOf(relay, server.url()), INGESTER_SHARD: shard })
  await expect.poll(() => redis.get(`firehose_live:cursor:${relay.host}`), WAIT).toBe(String(relay.seq))
  await ingester.stop()
  return ingester
}

async function open(server: RedisServer): Promise<Redis & AsyncDisposable> {
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  return Object.assign(redis, { [Symbol.asyncDispose]: () => Promise.resolve(redis.destroy()) })
}

/** What waits: events' accounts, and the accounts that are asked for. */
async function waiting(redis: Redis): Promise<{ events: string[]; asked: string[] }> {
  const events = (await redis.xRange('firehose_live', '-', '+'))!.map(({ message }) => streamEventCodec.decode(message))
  const asked = (await redis.xRange('repo_backfill', '-', '+'))!.map(({ message }) =>
    backfillEventCodec.decode(message),
  )
  return { events: events.map(({ did }) => did), asked: asked.map(({ did }) => did) }
}

const didsOf = (repos: readonly TestRepo[]): string[] => repos.map(({ did }) => did)

test('one becomes two by a copy: each goes on at the cursor, and no chain breaks', async () => {
  await using at = await stage()
  at.commit()
  const dirs = [join(at.dir, '0'), join(at.dir, '1')] as const
  {
    await using whole = await startRedis({ dir: dirs[0] })
    await readAll(whole, at.relay, '')
    await using redis = await open(whole)
    expect((await waiting(redis)).events.length).toBe(16)
    // As when indexers are through.
    await redis.del('firehose_live')
  }
  cpSync(dirs[0], dirs[1], { recursive: true })
  at.commit()
  for (const [index, dir] of dirs.entries()) {
    await using server = await startRedis({ dir })
    await using redis = await open(server)
    await expect(readAll(server, at.relay, `${index}/2`)).rejects.toThrow(/holds shard 0\/1/)
    await redis.del(KEYS)
    const before = at.relay.cursors.length
    const ingester = await readAll(server, at.relay, `${index}/2`)
    expect(at.relay.cursors.slice(before)).toEqual([16])
    expect(await waiting(redis)).toEqual({ events: didsOf(at.ofShard(index)), asked: [] })
    expect(await ingester.metric('sluice_ingester_resyncs_total')).toBe(0)
  }
})

test('two become one: accounts that are new to a Redis lose no event, and are asked for once, those that return too', async () => {
  await using at = await stage()
  await using server = await startRedis()
  await using redis = await open(server)
  // As of the other shard's accounts when they were here before: records that are old by now.
  at.commit()
  await readAll(server, at.relay, '')
  const [returning, ...strangers] = at.ofShard(1)
  for (const { key, field } of didsOf(strangers).map(chainAddress)) {
    expect(await redis.sendCommand(['HDEL', key, field])).toBe(1)
  }
  await redis.del([...KEYS, 'firehose_live'])
  at.commit()
  await readAll(server, at.relay, '0/2')
  const cursor = at.relay.seq
  await redis.del([...KEYS, 'firehose_live'])
  at.commit()
  at.commit()
  // The lowest of the old cursors: here our own.
  expect(await redis.get(`firehose_live:cursor:${at.relay.host}`)).toBe(String(cursor))
  const ingester = await readAll(server, at.relay, '')
  const { events, asked } = await waiting(redis)
  expect(events.length).toBe(2 * 16)
  expect(asked.toSorted()).toEqual(didsOf(at.ofShard(1)).toSorted())
  expect(await ingester.metric('sluice_ingester_resyncs_total', { cause: 'since', answer: 'asked' })).toBe(1)
  expect(asked).toContain(returning!.did)
  expect(await ingester.metric('sluice_ingester_resyncs_total', { cause: 'unknown', answer: 'asked' })).toBe(
    strangers.length,
  )
})
