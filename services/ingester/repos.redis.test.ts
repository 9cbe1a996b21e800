/** Repositories are listed once, all of them; sweeps find those that are missing or behind, and nothing else. */
import { setTimeout as sleep } from 'node:timers/promises'
import { HttpClient } from '@sluice/atproto/http.ts'
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { backfillEventCodec, streamEventCodec } from '@sluice/events/codec.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { sweepDemandKey, sweptKey } from '@sluice/streams/backfill-queue.ts'
import { completeExport } from '@sluice/streams/chain-state.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { CursorConflictError, Producer } from '@sluice/streams/producer.ts'
import { WHOLE } from '@sluice/streams/spread.ts'
import { listRepos, type RepoListOptions } from './repo-list.ts'
import { stuckKey } from './stuck-cursor.ts'
import { demandSweep } from './sweep-demand.ts'
import { test, WAIT, type Tools } from './testing/run.ts'

const ENV = { INGESTER_MODE: 'backfill', INGESTER_SWEEP_GRACE_MS: '0' }
const DONE = '!ingester-done'
let number = 0
const post = (): Write => ({
  path: `app.bsky.feed.post/r${number++}`,
  record: { $type: 'app.bsky.feed.post', text: 'hello', createdAt: '2026-01-01T00:00:00.000Z' },
})

function people(count: number, name = 'person'): TestRepo[] {
  return Array.from({ length: count }, (_, i) => {
    const repo = new TestRepo(testDid(`${name} ${i}`))
    repo.write([post()])
    return repo
  })
}

/** As the backfiller does when it has fetched a repository. */
async function exported({ redis }: Tools, repos: readonly TestRepo[]): Promise<void> {
  const highWater = new HighWater({ redis, stream: 'firehose_backfill', entriesMax: 1e6 })
  const producer = new Producer({ redis, stream: 'firehose_backfill', codec: streamEventCodec, highWater })
  await producer.append([], new AbortController().signal, { also: repos.map((repo) => completeExport(repo.did, repo)) })
}

async function listed(tools: Tools, relay: FakeRelay): Promise<void> {
  await expect.poll(() => tools.redis.get(`repo_backfill:cursor:${relay.host}`), WAIT).toBe(DONE)
}

async function swept(tools: Tools): Promise<void> {
  await expect.poll(() => tools.redis.get(sweepDemandKey('repo_backfill')), WAIT).toBeNull()
}

const didsOf = (repos: readonly { did: string }[]) => repos.map(({ did }) => did)

test('accounts of INGESTER_SKIP_DIDS are not listed, nor found by a sweep', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const repos = people(3)
  relay.register(...repos)
  await tools.ingest(relay, { ...ENV, INGESTER_SKIP_DIDS: repos[1]!.did })
  await listed(tools, relay)
  const others = didsOf([repos[0]!, repos[2]!])
  expect(didsOf(await tools.requests())).toEqual(others)
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  await swept(tools)
  expect(new Set(didsOf(await tools.requests()))).toEqual(new Set(others))
})

test('B1 every repository is asked for once, page by page, and the end is marked; failures are waited for', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const repos = people(25)
  relay.register(...repos)
  relay.directory.pageRepos = 10
  relay.directory.inactive.set(repos[3]!.did, 'takendown')
  relay.directory.failsOnce.add('/xrpc/com.atproto.sync.listRepos')
  const ingester = await tools.ingest(relay, ENV)
  await listed(tools, relay)
  const requests = await tools.requests()
  expect(didsOf(requests)).toEqual(didsOf(repos))
  expect(requests[0]).toEqual({
    did: repos[0]!.did,
    host: relay.host,
    rev: repos[0]!.rev,
    active: true,
    reason: 'listed',
  })
  expect(requests[3]).toMatchObject({ active: false, status: 'takendown' })
  expect(await ingester.metric('sluice_ingester_listing_waits_total')).toBe(1)
  expect(relay.directory.asked('/xrpc/com.atproto.sync.listRepos')).toBe(4)
})

test('B1 an enumeration that was interrupted goes on at its cursor, and one that has ended is not repeated', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  relay.register(...people(25))
  relay.directory.pageRepos = 10
  await tools.redis.set(`repo_backfill:cursor:${relay.host}`, '10')
  const first = await tools.ingest(relay, ENV)
  await listed(tools, relay)
  expect((await tools.requests()).length).toBe(15)
  await first.stop()
  const second = await tools.ingest(relay, ENV)
  await expect.poll(() => second.metric('sluice_ingester_listing_phase', { phase: 'waiting' }), WAIT).toBe(1)
  expect(relay.directory.asked('/xrpc/com.atproto.sync.listRepos')).toBe(2)
})

/**
 * Lists four repositories, one a page.
 * @param between what happens while the third page is on its way
 */
async function listing({ redis }: Tools, between: (cursorKey: string) => Promise<unknown>) {
  await using relay = await FakeRelay.start()
  const repos = people(4)
  relay.register(...repos)
  relay.directory.pageRepos = 1
  const stream = 'repo_backfill'
  const cursorKey = `${stream}:cursor:${relay.host}`
  const http = new HttpClient({ allowPrivate: true })
  const client = new XrpcClient(http)
  let pages = 0
  const xrpc: RepoListOptions['xrpc'] = {
    listRepos: async (...args) => {
      if (++pages === 3) await between(cursorKey)
      return client.listRepos(...args)
    },
  }
  const highWater = new HighWater({ redis, stream, entriesMax: 1e6 })
  const ended = await listRepos(
    {
      redis,
      xrpc,
      producer: new Producer({ redis, stream, codec: backfillEventCodec, highWater }),
      url: relay.url.replace('ws', 'http'),
      cursorKey,
      stuckKey: stuckKey(stream, relay.host),
      listing: () => ({ host: relay.host, isPds: false, isSweep: false, horizonMs: Date.now(), skipDids: new Set(), shard: WHOLE }), // prettier-ignore
      onPage: () => {},
      onWait: ({ error }) => expect.fail(String(error)),
      onAnew: (_, error) => expect.fail(String(error)),
    },
    new AbortController().signal,
  ).catch((error: unknown) => error)
  await http.close()
  return { repos, pages, ended, cursor: await redis.get(cursorKey) }
}

test.for([
  ['at an earlier page', '1'],
  ['with no cursor', null],
] as const)(
  'B1 Redis comes back %s in the middle of a listing, which goes on from there',
  async ([, cursor], { tools }) => {
    const { redis } = tools
    const at = await listing(tools, (key) => (cursor === null ? redis.del(key) : redis.set(key, cursor)))
    expect(at.ended).toBeUndefined()
    expect(at.pages).toBeGreaterThan(at.repos.length)
    expect(at.cursor).toBe(DONE)
    expect(new Set(didsOf(await tools.requests()))).toEqual(new Set(didsOf(at.repos)))
  },
)

test.for([
  ['is a page ahead in the same list', '3'],
  ['has come to the end of the same list', DONE],
] as const)(
  'B1 where another ingester %s, this one ends with the conflict, and moves nothing',
  async ([, cursor], { tools }) => {
    const at = await listing(tools, (key) => tools.redis.set(key, cursor))
    expect(at.ended).toBeInstanceOf(CursorConflictError)
    expect(at.pages).toBe(3)
    expect(at.cursor).toBe(cursor)
    expect(didsOf(await tools.requests())).toEqual(didsOf(at.repos.slice(0, 2)))
  },
)

test('a sweep asks for what is missing or behind, and for nothing else', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const repos = people(10)
  relay.register(...repos)
  const ingester = await tools.ingest(relay, ENV)
  await listed(tools, relay)
  await exported(tools, repos)
  await tools.redis.del('repo_backfill')
  repos[2]!.write([post()])
  const late = people(1, 'late')
  relay.register(...late)
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  await swept(tools)
  const requests = await tools.requests()
  expect(requests.map(({ did, reason }) => [did, reason])).toEqual([
    [repos[2]!.did, 'sweep'],
    [late[0]!.did, 'listed'],
  ])
  expect(await ingester.metric('sluice_ingester_listed_repos_total', { outcome: 'known' })).toBe(9)
  // Asked for, and not fetched yet: not asked for again.
  await demandSweep(tools.redis, 'repo_backfill', 'another')
  await swept(tools)
  expect((await tools.requests()).length).toBe(2)
})

test('sweeps follow each other by the clock', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const repos = people(3)
  relay.register(...repos)
  await tools.redis.set(sweptKey('repo_backfill'), new Date(Date.now() - 3_600_000).toISOString())
  await tools.ingest(relay, { ...ENV, INGESTER_SWEEP_INTERVAL_MS: '300000' })
  await listed(tools, relay)
  await expect
    .poll(async () => Date.now() - Date.parse((await tools.redis.get(sweptKey('repo_backfill')))!), WAIT)
    .toBeLessThan(300_000)
  expect(relay.directory.asked('/xrpc/com.atproto.sync.listRepos')).toBe(2)
})

test('what the live stream may still bring is not missing', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const startMs = Date.now() - 3_600_000
  const repo = new TestRepo(testDid('fresh'), { startMs })
  repo.write([post()])
  relay.register(repo)
  const ingester = await tools.ingest(relay, { ...ENV, INGESTER_SWEEP_GRACE_MS: '1000' })
  await listed(tools, relay)
  await exported(tools, [repo])
  await tools.redis.del('repo_backfill')
  repo.write([post()])
  // The live stream is two hours behind.
  await tools.redis.set(`firehose_live:time:${relay.host}`, new Date(Date.now() - 7_200_000).toISOString())
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  await expect.poll(() => ingester.metric('sluice_ingester_listed_repos_total', { outcome: 'too-young' }), WAIT).toBe(1)
  expect(await tools.requests()).toEqual([])
})

test('a relay that is dead or silent keeps no sweep from asking for what another one lists', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await using silent = await FakeRelay.start()
  const [repo] = people(1)
  relay.register(repo!)
  await tools.ingest(relay, { ...ENV, RELAY_HOSTS: `${relay.url},${silent.url}` })
  await listed(tools, relay)
  await listed(tools, silent)
  await exported(tools, [repo!])
  await tools.redis.del('repo_backfill')
  repo!.write([post()])
  await tools.redis.set(`firehose_live:time:${relay.host}`, new Date().toISOString())
  await tools.redis.set(`firehose_live:time:${silent.host}`, new Date(0).toISOString())
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  await swept(tools)
  expect(await tools.requests()).toMatchObject([{ did: repo!.did, host: relay.host, reason: 'sweep' }])
})

test('host by host: each host that the relay knows, but for the dead, the skipped and the broken', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using one = await FakeRelay.start()
  await using two = await FakeRelay.start()
  await using skipped = await FakeRelay.start()
  const all = [one, two, skipped].map((host, i) => {
    const repos = people(3, `host ${i}`)
    host.register(...repos)
    return repos
  })
  relay.directory.hosts = [
    { hostname: one.host, status: 'active' },
    { hostname: '127.0.0.1:1', status: 'offline' },
    { hostname: two.host },
    { hostname: skipped.host },
  ]
  await tools.ingest(relay, { ...ENV, INGESTER_REPO_SOURCE: 'hosts', INGESTER_SKIP_HOSTS: skipped.host })
  await listed(tools, relay)
  const requests = await tools.requests()
  expect(new Set(didsOf(requests))).toEqual(new Set(didsOf([...all[0]!, ...all[1]!])))
  expect(new Set(requests.map(({ host }) => host))).toEqual(new Set([one.host, two.host]))
  expect(await tools.redis.get(`repo_backfill:cursor:${one.host}`)).toBe(DONE)
  expect(skipped.directory.requests).toEqual([])
})

test('D7 at its high-water mark nothing more is listed, until there is room', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  relay.register(...people(30))
  relay.directory.pageRepos = 5
  await tools.ingest(relay, { ...ENV, INGESTER_REPO_STREAM_HIGH_WATER_MARK: '12' })
  await expect.poll(() => tools.redis.xLen('repo_backfill'), WAIT).toBe(15)
  await sleep(300)
  expect(await tools.redis.xLen('repo_backfill')).toBe(15)
  let drained = 0
  await expect
    .poll(async () => {
      const entries = (await tools.redis.xRange('repo_backfill', '-', '+'))!.map(({ id }) => id)
      if (entries.length > 0) drained += await tools.redis.xDel('repo_backfill', entries)
      return drained
    }, WAIT)
    .toBe(30)
  await listed(tools, relay)
})

test('a host that says otherwise decides a status that differs', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const [repo] = people(1)
  relay.register(repo!)
  const ingester = await tools.ingest(relay, ENV)
  await listed(tools, relay)
  relay.directory.inactive.set(repo!.did, 'deactivated')
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  await swept(tools)
  await expect.poll(() => ingester.metric('sluice_ingester_account_checks_total', { answer: 'differs' }), WAIT).toBe(1)
  expect(await tools.events()).toMatchObject([
    { type: 'account', did: repo!.did, active: false, status: 'deactivated' },
  ])
})
