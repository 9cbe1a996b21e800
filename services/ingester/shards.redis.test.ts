/**
 * Shards share the accounts among them: each event is appended once, in the shard of its account, and every frame is
 * accounted for in each.
 */
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { backfillEventCodec, streamEventCodec } from '@sluice/events/codec.ts'
import { pathOf } from '@sluice/events/stream-event.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import { readChains } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { ledgerKey } from '@sluice/streams/ledger.ts'
import { isInShard, shardOf } from '@sluice/streams/spread.ts'
import { demandSweep } from './sweep-demand.ts'
import { envOf, test, TestIngester, WAIT } from './testing/run.ts'
import { Traffic } from './testing/traffic.ts'

const SHARDS = 3
const FRAMES = Number(process.env.EVENTS ?? 1_500)
const SEEDS = (process.env.SEEDS ?? 'shards').split(',')
const TIME = '2026-01-01T00:00:00.000Z'
/** Of frames that name no account: each shard has to see to them. */
const OF_NOBODY = ['refused:frame-bad-header', 'unknown-type']

/** Several shards in one Redis, which is the harder case: nothing of theirs may collide. */
const names = (index: number) => ({ live: `firehose_live:${index}`, repos: `repo_backfill:${index}` })
const envOfShard = (index: number) => ({
  INGESTER_SHARD: `${index}/${SHARDS}`,
  INGESTER_FIREHOSE_STREAM: names(index).live,
  INGESTER_REPO_STREAM: names(index).repos,
})
const indices = Array.from({ length: SHARDS }, (_, index) => index)

const post = (number: number): Write => ({
  path: `app.bsky.feed.post/r${number}`,
  record: { $type: 'app.bsky.feed.post', text: 'hello', createdAt: TIME },
})

test.for(SEEDS)('every event is in the shard of its account, once and in order, seed %s', async (seed, { tools }) => {
  await using relay = await FakeRelay.start()
  const traffic = new Traffic(relay, seed, 25)
  for (let i = 0; i < FRAMES; i++) traffic.next()
  relay.message('#identity', { did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', time: TIME })
  const ingesters = await Promise.all(indices.map((index) => tools.ingest(relay, envOfShard(index))))
  for (const index of indices) await caughtUp(tools.redis, relay, index)

  const found = new Map<string, string[]>()
  const ledgers: Record<string, number>[] = []
  for (const index of indices) {
    const events = await eventsOf(tools.redis, names(index).live)
    expect(events.length).toBeGreaterThan(0)
    expect(events.filter(({ did }) => !isInShard(did, { index, of: SHARDS }))).toEqual([])
    for (const event of events)
      if ('rkey' in event) found.set(event.did, [...(found.get(event.did) ?? []), pathOf(event)])
    const asked = await requestsOf(tools.redis, names(index).repos)
    expect(asked.filter((did) => !isInShard(did, { index, of: SHARDS }))).toEqual([])
    const ledger = await tools.redis.hGetAll(ledgerKey(names(index).live, relay.host))
    ledgers.push(Object.fromEntries(Object.entries(ledger).map(([outcome, count]) => [outcome, Number(count)])))
    expect(await ingesters[index]!.metric('sluice_ingester_outcomes_total', { outcome: 'other-shard' })).toBe(
      ledgers[index]!['other-shard'],
    )
  }
  expect(found).toEqual(traffic.events)

  const sent: Record<string, number> = { ...traffic.ledger, appended: traffic.ledger.appended! + 1 }
  const ofNobody = OF_NOBODY.reduce((sum, outcome) => sum + sent[outcome]!, 0)
  for (const ledger of ledgers) expect(Object.values(ledger).reduce((a, b) => a + b, 0)).toBe(relay.frames)
  for (const [outcome, count] of Object.entries(sent)) {
    const sum = ledgers.reduce((total, ledger) => total + (ledger[outcome] ?? 0), 0)
    expect([outcome, sum]).toEqual([outcome, OF_NOBODY.includes(outcome) ? count * SHARDS : count])
  }
  const left = ledgers.reduce((total, ledger) => total + ledger['other-shard']!, 0)
  expect(left).toBe((relay.frames - ofNobody) * (SHARDS - 1))
})

test('of accounts of other shards nothing is looked up, remembered or believed, and the cursor passes them', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const [own, other] = [repoOf(0), repoOf(1)]
  relay.register(own, other)
  relay.commit(own, [post(0)])
  relay.commit(other, [post(1)])
  relay.message('#account', { did: other.did, time: TIME, active: false, status: 'deleted' })
  relay.message('#identity', { did: other.did, time: TIME })
  relay.message('#sync', other.sync().body)
  await tools.ingest(relay, envOfShard(0))
  await caughtUp(tools.redis, relay, 0)
  expect((await eventsOf(tools.redis, names(0).live)).map(({ did }) => did)).toEqual([own.did])
  const [known, unknown] = await readChains(tools.redis, [own.did, other.did])
  expect(known?.record.rev).toBe(own.rev)
  expect(unknown).toBeUndefined()
  expect(relay.directory.asked(`/${own.did}`)).toBe(1)
  expect(relay.directory.asked(`/${other.did}`)).toBe(0)
})

test('each shard asks for its own repositories, by listing and by sweep, and marks the end of its own', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const repos = Array.from({ length: 40 }, (_, i) => new TestRepo(testDid(`shards ${i}`)))
  for (const repo of repos) repo.write([post(0)])
  relay.register(...repos)
  relay.directory.pageRepos = 7
  const ingesters: TestIngester[] = []
  for (const index of indices) {
    const env = { ...envOfShard(index), INGESTER_MODE: 'backfill', INGESTER_SWEEP_GRACE_MS: '0' }
    ingesters.push(await tools.ingest(relay, env))
    const key = `${names(index).repos}:cursor:${relay.host}`
    await expect.poll(() => tools.redis.get(key), WAIT).toBe('!ingester-done')
    // The others have not begun, and nothing that this one has done ends their listing.
    const asked = (await Promise.all(indices.map((i) => requestsOf(tools.redis, names(i).repos)))).flat()
    const isDone = ({ did }: TestRepo): boolean => shardOf(did, SHARDS) <= index
    expect(new Set(asked)).toEqual(new Set(repos.filter(isDone).map(({ did }) => did)))
    expect(asked.length).toBe(new Set(asked).size)
  }
  for (const index of indices) {
    const { repos: stream } = names(index)
    const own = repos.filter(({ did }) => isInShard(did, { index, of: SHARDS }))
    expect(await requestsOf(tools.redis, stream)).toEqual(own.map(({ did }) => did))
    await demandSweep(tools.redis, stream, 'a test')
    await expect.poll(() => tools.redis.get(sweepDemandKey(stream)), WAIT).toBeNull()
    const listed = (outcome: string) => ingesters[index]!.metric('sluice_ingester_listed_repos_total', { outcome })
    expect(await listed('asked')).toBe(own.length)
    expect(await listed('pending')).toBe(own.length)
    expect(await listed('other-shard')).toBe(2 * (repos.length - own.length))
  }
})

test('a Redis that holds one shard is no place for another, until the operator says so', async ({
  tools,
  redisUrl,
}) => {
  await using relay = await FakeRelay.start()
  const start = (shard: string) => TestIngester.start({ ...envOf(relay, redisUrl), INGESTER_SHARD: shard })
  const first = await start('0/2')
  await first.stop()
  await expect(start('1/2')).rejects.toThrow(/firehose_live of this Redis holds shard 0\/2.*says 1\/2/)
  await expect(start('')).rejects.toThrow(/holds shard 0\/2.*says 0\/1/)
  await expect(start('0/4')).rejects.toThrow(/holds shard 0\/2/)
  await (await start('0/2')).stop()
  await tools.redis.del(['firehose_live:shard', 'repo_backfill:shard'])
  await (await start('')).stop()
  await expect(start('0/2')).rejects.toThrow(/holds shard 0\/1/)
})

/** A repository of that shard. */
function repoOf(index: number): TestRepo {
  for (let i = 0; ; i++) {
    const did = testDid(`of ${index} ${i}`)
    if (isInShard(did, { index, of: SHARDS })) return new TestRepo(did)
  }
}

async function caughtUp(redis: Redis, relay: FakeRelay, index: number): Promise<void> {
  const key = `${names(index).live}:cursor:${relay.host}`
  await expect.poll(() => redis.get(key), WAIT).toBe(String(relay.seq))
}

async function eventsOf(redis: Redis, stream: string) {
  return (await redis.xRange(stream, '-', '+'))!.map(({ message }) => streamEventCodec.decode(message))
}

async function requestsOf(redis: Redis, stream: string): Promise<string[]> {
  return (await redis.xRange(stream, '-', '+'))!.map(({ message }) => backfillEventCodec.decode(message).did)
}
