/** How often repositories may be asked for: all together by the second, and each account by itself. */
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { readChains } from '@sluice/streams/chain-state.ts'
import { listIncidents } from '@sluice/streams/incidents.ts'
import { vi } from 'vitest'
import { ACCOUNT_ASK_MS, ACCOUNT_ASKS, ResyncLimit } from './resync-limit.ts'
import { STORM_RESYNCS } from './resync-storm.ts'
import { caughtUp, test } from './testing/run.ts'

/** For what takes seconds on an idle machine. */
const LONG = { timeout: 120_000, interval: 50 }
const [ALICE, BOB] = ['did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', 'did:plc:bbbbbbbbbbbbbbbbbbbbbbbb'] as const

test('V3 an account has its asks, which come back one by one, and uses up no others', async ({ tools }) => {
  let nowMs = 1_800_000_000_000
  const options = { redis: tools.redis, repoStream: 'repo_backfill', perSecond: 200, entriesMax: 1_000 }
  const limit = new ResyncLimit({ ...options, now: () => nowMs })
  const asksOf = async (did: string): Promise<number> => {
    for (let asks = 0; ; asks++) {
      if (!(await limit.now()).mayAsk(did)) return asks
      limit.spend([did])
    }
  }
  expect(await asksOf(ALICE)).toBe(ACCOUNT_ASKS)
  expect(await asksOf(BOB)).toBe(ACCOUNT_ASKS)
  nowMs += ACCOUNT_ASK_MS - 1
  expect(await asksOf(ALICE)).toBe(0)
  nowMs += 1
  expect(await asksOf(ALICE)).toBe(1)
  nowMs += 100 * ACCOUNT_ASKS * ACCOUNT_ASK_MS
  expect(await asksOf(ALICE)).toBe(ACCOUNT_ASKS)
})

test('V3 the asks of a second are for all, and come back with it', async ({ tools }) => {
  let nowMs = 1_800_000_000_000
  const options = { redis: tools.redis, repoStream: 'repo_backfill', perSecond: 2, entriesMax: 1_000 }
  const limit = new ResyncLimit({ ...options, now: () => nowMs })
  expect((await limit.now()).asks).toBe(2)
  limit.spend([ALICE, BOB])
  expect((await limit.now()).asks).toBe(0)
  nowMs += 500
  expect((await limit.now()).asks).toBe(1)
})

test('D7 no more is asked for than the stream of repositories has room for, as it fills and as it is emptied', async ({
  tools,
}) => {
  let nowMs = 1_800_000_000_000
  const options = { redis: tools.redis, repoStream: 'repo_backfill', perSecond: 200, entriesMax: 10 }
  const limit = new ResyncLimit({ ...options, now: () => nowMs })
  for (let i = 0; i < 7; i++) await tools.redis.xAdd('repo_backfill', '*', { repo: '{}' })
  expect((await limit.now()).asks).toBe(3)
  limit.spend([ALICE, BOB])
  expect((await limit.now()).asks).toBe(1)
  for (let i = 0; i < 5; i++) await tools.redis.xAdd('repo_backfill', '*', { repo: '{}' })
  nowMs += 1_000
  expect((await limit.now()).asks).toBe(0)
  await tools.redis.del('repo_backfill')
  nowMs += 1_000
  expect((await limit.now()).asks).toBe(10)
})

test('a clock that is set back takes nobody his asks', async ({ tools }) => {
  const options = { redis: tools.redis, repoStream: 'repo_backfill', perSecond: 1_000, entriesMax: 10_000 }
  const limit = new ResyncLimit(options)
  await limit.now()
  limit.spend([ALICE])
  vi.setSystemTime(Date.now() - 86_400_000)
  try {
    const { asks, mayAsk, nowSeconds } = await limit.now()
    expect(asks).toBeGreaterThanOrEqual(999)
    expect(mayAsk(ALICE)).toBe(true)
    // What goes into chain records stays the time.
    expect(nowSeconds * 1_000).toBeLessThanOrEqual(Date.now())
  } finally {
    vi.useRealTimers()
  }
})

test('an account that comes and goes all the time is asked for a few times, and then remembered for the sweep', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  // Its own host decides nothing meanwhile.
  relay.directory.pds = 'http://127.0.0.1:1'
  relay.commit(alice, [{ path: 'app.bsky.feed.post/3kaaaaaaaaa22', record: { $type: 'app.bsky.feed.post', text: '' } }])
  const turns = 2 * ACCOUNT_ASKS
  for (let n = 0; n < turns; n++) {
    const time = new Date().toISOString()
    relay.message('#account', { did: alice.did, time, active: false, status: 'deactivated' })
    relay.message('#account', { did: alice.did, time, active: true })
  }
  // Each in a batch of its own.
  const ingester = await tools.ingest(relay, { INGESTER_BATCH_SIZE: '1' })
  await caughtUp(tools, relay)
  const requests = await tools.requests()
  expect(requests.length).toBe(ACCOUNT_ASKS)
  const deferred = { cause: 'reactivated', answer: 'deferred' }
  expect(await ingester.metric('sluice_ingester_resyncs_total', deferred)).toBe(turns - ACCOUNT_ASKS)
  const [chain] = await readChains(tools.redis, [alice.did])
  expect(chain!.record).toMatchObject({ inactive: false, resync: { need: alice.rev, askedAt: 0 } })
})

test(
  'a storm of resyncs, most of them turned away by the limit, is one incident',
  { timeout: 300_000 },
  async ({ tools }) => {
    await using relay = await FakeRelay.start()
    // Of many accounts: what one says is worked off one after the other, with a question to Redis each.
    const repos = Array.from({ length: 50 }, (_, i) => new TestRepo(testDid(`account ${i}`)))
    relay.register(...repos)
    relay.directory.pds = 'http://127.0.0.1:1'
    // Complete so far: without that its first export brings everything, and nothing is late.
    const write = { path: 'app.bsky.feed.post/3kaaaaaaaaa22', record: { $type: 'app.bsky.feed.post', text: '' } }
    for (const repo of repos) relay.commit(repo, [write])
    const time = new Date().toISOString()
    for (let n = 0; n < STORM_RESYNCS + 500; n++) {
      const { did } = repos[n % repos.length]!
      relay.message('#account', { did, time, active: false, status: 'deactivated' })
      relay.message('#account', { did, time, active: true })
    }
    const ingester = await tools.ingest(relay, { INGESTER_RESYNCS_PER_SECOND: '0' })
    await expect.poll(() => tools.cursor(relay), LONG).toBe(String(relay.seq))
    await expect.poll(() => tools.incidents(), LONG).toEqual(['resync-storm'])
    // Counted when Redis has answered, which is after others may see it there.
    const counted = () => ingester.metric('sluice_incidents_total', { kind: 'resync-storm' })
    await expect.poll(counted, LONG).toBe(1)
    const [incident] = await listIncidents(tools.redis, 1)
    expect(incident!.what).toMatch(/^\d+ repositories that may lack something were not requested within a minute/)
  },
)

test('with INGESTER_RESYNCS_PER_SECOND=0 the live stream asks for nothing, and remembers it for the sweep', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  const write = (rkey: string) => [{ path: `app.bsky.feed.post/${rkey}`, record: { $type: 'app.bsky.feed.post', text: '' } }] // prettier-ignore
  relay.commit(alice, write('one'))
  alice.write(write('lost'))
  relay.commit(alice, write('two'))
  const ingester = await tools.ingest(relay, { INGESTER_RESYNCS_PER_SECOND: '0' })
  await caughtUp(tools, relay)
  expect(await tools.requests()).toEqual([])
  expect(await ingester.metric('sluice_ingester_resyncs_total', { answer: 'deferred' })).toBe(1)
  const [chain] = await readChains(tools.redis, [alice.did])
  expect(chain!.record.resync).toMatchObject({ need: alice.rev, askedAt: 0 })
})
