/**
 * What hosts answer that nobody can trust is counted and passed over: it ends no process, and holds up no pass over the
 * repositories.
 */
import type { ServerResponse } from 'node:http'
import { formatCid } from '@sluice/atproto/cid.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { drip } from '@sluice/atproto/testing/servers.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import type { ReposOptions } from './repos.ts'
import { demandSweep } from './sweep-demand.ts'
import { reposOf } from './testing/repos.ts'
import { caughtUp, test, WAIT, type Tools } from './testing/run.ts'
import { REFUSED_ANSWERS, Stranger, type Answer } from './testing/stranger.ts'
import { parseUpstream } from './upstream.ts'

const TIME = '2026-01-01T00:00:00.000Z'
const HOSTS = { INGESTER_MODE: 'backfill', INGESTER_REPO_SOURCE: 'hosts' }
const DONE = '!ingester-done'
const FAILURES = 'sluice_ingester_listing_host_failures_total'
const WRITE: Write = {
  path: 'app.bsky.feed.post/3kaaaaaaaaa22',
  record: { $type: 'app.bsky.feed.post', text: 'hello', createdAt: TIME },
}

function person(name: string): TestRepo {
  const repo = new TestRepo(testDid(name))
  repo.write([WRITE])
  return repo
}

const cursorOf = (tools: Tools, { host }: { host: string }) => tools.redis.get(`repo_backfill:cursor:${host}`)

async function listed(tools: Tools, relay: FakeRelay): Promise<void> {
  await expect.poll(() => cursorOf(tools, relay), WAIT).toBe(DONE)
}

const UNANSWERED: { name: string; answer: Answer; env: Record<string, string> }[] = [
  ...REFUSED_ANSWERS.map((row) => ({ ...row, env: {} })),
  { name: 'may not be asked', answer: (_, response) => response.destroy(), env: { ALLOW_PRIVATE_HOSTS: 'false' } },
]

test.for(UNANSWERED)(
  'asked for the status of an account, a host that $name has given no answer',
  async ({ answer, env }, { tools }) => {
    await using relay = await FakeRelay.start()
    await using stranger = await Stranger.start(answer)
    const [alice, bob] = ['alice', 'bob'].map((name) => new TestRepo(testDid(name)))
    relay.register(alice!, bob!)
    relay.directory.pds = stranger.url
    const ingester = await tools.ingest(relay, env)
    relay.commit(alice!, [WRITE])
    relay.message('#account', { did: alice!.did, time: TIME, active: false, status: 'deactivated' })
    const unanswered = { answer: 'no-answer' }
    await expect.poll(() => ingester.metric('sluice_ingester_account_checks_total', unanswered), WAIT).toBe(1)
    relay.commit(bob!, [WRITE])
    await caughtUp(tools, relay)
    expect(await tools.ledger(relay)).toEqual({ appended: 3 })
  },
)

test('a host that answers slowly, with many accounts that come and go, keeps nobody from being asked', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using slow = await Stranger.start((_, response) => drip(response, 200))
  const theirs = Array.from({ length: 40 }, (_, i) => new TestRepo(testDid(`coming and going ${i}`)))
  const alice = new TestRepo(testDid('alice'))
  relay.register(...theirs)
  relay.directory.pds = slow.url
  const service = [{ id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: relay.url }]
  relay.directory.documents.set(alice.did, { id: alice.did, service })
  relay.directory.repos.set(alice.did, alice)
  for (const { did } of [...theirs, alice])
    relay.message('#account', { did, time: TIME, active: false, status: 'deactivated' })
  const ingester = await tools.ingest(relay)
  await expect.poll(() => ingester.metric('sluice_ingester_account_checks_total', { answer: 'differs' }), WAIT).toBe(1)
  expect(slow.requests.length).toBeGreaterThan(0)
  expect(slow.requests.length).toBeLessThan(8)
})

test.for(REFUSED_ANSWERS)(
  'host by host: one that $name is left for the next sweep, and the others are listed',
  async ({ answer }, { tools }) => {
    await using relay = await FakeRelay.start()
    await using stranger = await Stranger.start(answer)
    await using host = await FakeRelay.start()
    const alice = person('alice')
    host.register(alice)
    relay.directory.hosts = [{ hostname: stranger.host }, { hostname: host.host }]
    const ingester = await tools.ingest(relay, HOSTS)
    await listed(tools, relay)
    expect(await tools.requests()).toMatchObject([{ did: alice.did, host: host.host }])
    expect(await ingester.metric(FAILURES)).toBe(1)
  },
)

test('a relay that refuses to name its hosts is asked again later', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const ingester = await tools.ingest(relay, HOSTS)
  await expect.poll(() => ingester.metric(FAILURES), WAIT).toBe(1)
  expect(ingester.log.join('')).toContain('does not list its hosts, asked again in 10 min')
  expect(await ingester.metric('sluice_ingester_listing_phase', { phase: 'listing' })).toBe(1)
})

const page: Answer = (_, response) => response.writeHead(404, { 'content-type': 'text/html' }).end('<html>Not found')

test('a relay in front of which somebody answers with pages is asked again later, from where it was', async ({
  tools,
}) => {
  await using relay = await Stranger.start(page)
  await tools.redis.set(`repo_backfill:cursor:${relay.host}`, 'where it was')
  await using named = await FakeRelay.start()
  const ingester = await tools.ingest(named, { INGESTER_MODE: 'backfill', RELAY_HOSTS: relay.url })
  await expect.poll(() => ingester.metric(FAILURES), WAIT).toBe(1)
  expect(ingester.log.join('')).toContain('does not list its repositories, asked again in 10 min')
  const cursors = relay.requests.map(({ searchParams }) => searchParams.get('cursor'))
  // The last one asks whether it was the cursor.
  expect(cursors).toEqual([...Array(4).fill('where it was'), null])
  expect(await cursorOf(tools, relay)).toBe('where it was')
})

test('a host in front of which somebody answers with pages is left for the next sweep, and so is who lists hosts', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using stranger = await Stranger.start(page)
  await using host = await FakeRelay.start()
  const alice = person('alice')
  host.register(alice)
  relay.directory.hosts = [{ hostname: stranger.host }, { hostname: host.host }]
  const ingester = await tools.ingest(relay, HOSTS)
  await listed(tools, relay)
  expect(await tools.requests()).toMatchObject([{ did: alice.did, host: host.host }])
  expect(await ingester.metric(FAILURES)).toBe(1)
  const other = await tools.ingest(relay, { ...HOSTS, RELAY_HOSTS: stranger.url })
  await expect.poll(() => other.metric(FAILURES), WAIT).toBe(1)
  expect(other.log.join('')).toContain('does not list its hosts, asked again in 10 min')
})

test('a host that two relays name is listed once', async ({ tools }) => {
  await using one = await FakeRelay.start()
  await using two = await FakeRelay.start()
  await using host = await FakeRelay.start()
  host.register(person('alice'))
  for (const relay of [one, two]) relay.directory.hosts = [{ hostname: host.host }, { hostname: host.host }]
  await tools.ingest(one, { ...HOSTS, RELAY_HOSTS: `${one.url},${two.url}` })
  await listed(tools, one)
  await listed(tools, two)
  expect(host.directory.asked('/xrpc/com.atproto.sync.listRepos')).toBe(1)
  expect((await tools.requests()).length).toBe(1)
})

test('B1 an empty cursor follows the last page', async ({ tools }) => {
  const { did, commit, rev } = person('alice')
  const page = JSON.stringify({ repos: [{ did, head: formatCid(commit!), rev }], cursor: '' })
  await using relay = await FakeRelay.start()
  await using stranger = await Stranger.start((_, response) => response.end(page))
  relay.directory.hosts = [{ hostname: stranger.host }]
  await tools.ingest(relay, HOSTS)
  await listed(tools, relay)
  expect(await cursorOf(tools, stranger)).toBe(DONE)
  expect(await tools.requests()).toMatchObject([{ did }])
  expect(stranger.requests.length).toBe(1)
})

const next = ({ searchParams }: URL) => String(Number(searchParams.get('cursor')) + 1)

test('a page of more repositories than were asked for is not taken, of a host nor of a relay', async ({ tools }) => {
  const repos = Array.from({ length: 1_001 }, (_, i) => ({
    did: testDid(`many ${i}`),
    head: 'x',
    rev: '3kaaaaaaaaa22',
  }))
  await using relay = await FakeRelay.start()
  await using stranger = await Stranger.start((_, response) => response.end(JSON.stringify({ repos })))
  relay.directory.hosts = [{ hostname: stranger.host }]
  const ingester = await tools.ingest(relay, HOSTS)
  await listed(tools, relay)
  expect(await ingester.metric(FAILURES)).toBe(1)
  const other = await tools.ingest(relay, { INGESTER_MODE: 'backfill', RELAY_HOSTS: stranger.url })
  await expect.poll(() => other.metric(FAILURES), WAIT).toBe(1)
  expect(other.log.join('')).toContain('1001 repositories, asked for 1000')
  expect(stranger.requests.length).toBe(2)
  expect(await tools.requests()).toEqual([])
})

test('B1 a cursor that its host no longer takes holds nothing up: it is listed from the start', async ({ tools }) => {
  const alice = person('alice')
  const page = JSON.stringify({ repos: [{ did: alice.did, head: formatCid(alice.commit!), rev: alice.rev }] })
  const answer: Answer = ({ searchParams }, response) =>
    searchParams.has('cursor')
      ? response.writeHead(400).end('{"error":"InvalidRequest","message":"Malformed cursor"}')
      : response.end(page)
  await using relay = await Stranger.start(answer)
  await using host = await Stranger.start(answer)
  await using named = await FakeRelay.start()
  named.directory.hosts = [{ hostname: host.host }]
  const old = 'of the software before'
  await tools.redis.set(`repo_backfill:cursor:${relay.host}`, old)
  await tools.redis.set(`repo_backfill:sweep:cursor:${host.host}`, old)
  const ingester = await tools.ingest(named, HOSTS)
  await listed(tools, named)
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  await expect.poll(() => tools.redis.get(sweepDemandKey('repo_backfill')), WAIT).toBeNull()
  await tools.ingest(named, { INGESTER_MODE: 'backfill', RELAY_HOSTS: relay.url })
  await expect.poll(() => cursorOf(tools, relay), WAIT).toBe(DONE)
  const asked = ({ requests }: Stranger) => requests.map(({ searchParams }) => searchParams.get('cursor'))
  expect(asked(relay)).toEqual([old, null])
  expect(asked(host)).toEqual([null, old, null])
  expect(await tools.redis.get(`repo_backfill:sweep:cursor:${host.host}`)).toBe(DONE)
  expect(await ingester.metric(FAILURES)).toBe(0)
})

/** Lists the hosts of a relay until it is disposed, and counts the hosts that it leaves. */
function listingOf(tools: Tools, relay: FakeRelay, limits: Partial<ReposOptions>) {
  const http = new HttpClient({ allowPrivate: true })
  let failures = 0
  const repos = reposOf(tools, {
    xrpc: new XrpcClient(http),
    upstreams: [parseUpstream(relay.url)!],
    ...limits,
    observer: { listed() {}, phase() {}, waiting() {}, hostFailed: () => void failures++ },
  })
  const stop = new AbortController()
  const running = repos.run(stop.signal)
  return {
    failures: () => failures,
    async [Symbol.asyncDispose]() {
      stop.abort()
      await running
      await http.close()
    },
  }
}

test.for([
  { name: 'whose pages have no end', limits: { hostPages: 3 } },
  // Each answer takes longer than all of a pass may: one page a pass.
  { name: 'that answers too slowly', limits: { hostAnswersMs: 0 } },
])('a host $name is left for the next sweep, which goes on where it was', async ({ limits }, { tools }) => {
  await using relay = await FakeRelay.start()
  await using stranger = await Stranger.start((url, response) =>
    response.end(JSON.stringify({ repos: [], cursor: next(url) })),
  )
  relay.directory.hosts = [{ hostname: stranger.host }]
  await using listing = listingOf(tools, relay, limits)
  await listed(tools, relay)
  for (const why of ['one', 'two']) {
    await demandSweep(tools.redis, 'repo_backfill', why)
    await expect.poll(() => tools.redis.get(sweepDemandKey('repo_backfill')), WAIT).toBeNull()
  }
  const asked = stranger.requests.map(({ searchParams }) => searchParams.get('cursor'))
  const pages = limits.hostPages ?? 1
  const from = (first: number) => Array.from({ length: pages }, (_, i) => (first + i === 0 ? null : `${first + i}`))
  // The first listing, and two sweeps, which have a cursor of their own.
  expect(asked).toEqual([from(0), from(0), from(pages)].flat())
  expect(listing.failures()).toBe(3)
})

test('B1 a host that gives back the cursor that it was given is left, at that cursor, and not asked for ever', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using stranger = await Stranger.start((_, response) =>
    response.end(JSON.stringify({ repos: [], cursor: 'again' })),
  )
  relay.directory.hosts = [{ hostname: stranger.host }]
  await using listing = listingOf(tools, relay, { backoff: { baseMs: 1, capMs: 5, healthyAfterMs: 0 } })
  await listed(tools, relay)
  const asked = stranger.requests.map(({ searchParams }) => searchParams.get('cursor'))
  expect(asked).toEqual([null, ...Array(5).fill('again')])
  expect(await cursorOf(tools, stranger)).toBe('again')
  expect(listing.failures()).toBe(1)
})

test('when the listing of one relay fails, nobody reads another on: the next run finds its cursor alone', async ({
  tools,
}) => {
  const page = JSON.stringify({ repos: [] })
  const open = new Set<ServerResponse>()
  await using failing = await Stranger.start((_, response) => response.end(page))
  await using slow = await Stranger.start((_, response) => {
    open.add(response)
    response.on('close', () => open.delete(response))
  })
  const http = new HttpClient({ allowPrivate: true })
  const stop = new AbortController()
  let isAway = true
  const repos = reposOf(tools, {
    xrpc: new XrpcClient(http),
    source: 'relay',
    upstreams: [parseUpstream(failing.url)!, parseUpstream(slow.url)!],
    async liveLagMs(host) {
      if (!isAway || host !== failing.host) return 0
      await expect.poll(() => open.size, WAIT).toBe(1)
      throw new TransientError('Redis is away')
    },
  })
  await expect(repos.run(stop.signal)).rejects.toThrow('Redis is away')
  await expect.poll(() => open.size, WAIT).toBe(0)
  isAway = false
  const running = repos.run(stop.signal)
  try {
    await expect.poll(() => open.size, WAIT).toBe(1)
    for (const response of open) response.end(page)
    for (const relay of [failing, slow]) await expect.poll(() => cursorOf(tools, relay), WAIT).toBe(DONE)
  } finally {
    stop.abort()
    await running
    await http.close()
  }
})

test('a did:web whose host never comes to the end of its answer holds up nothing', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await using stranger = await Stranger.start((_, response) => drip(response, 404))
  relay.commit(new TestRepo(`did:web:localhost%3A${stranger.host.split(':')[1]}`), [WRITE])
  await tools.ingest(relay)
  // Asked twice, for as long as a host may take.
  await expect.poll(() => tools.cursor(relay), { ...WAIT, timeout: 40_000 }).toBe('1')
  expect(await tools.ledger(relay)).toEqual({ 'refused:no-signing-key': 1 })
})
