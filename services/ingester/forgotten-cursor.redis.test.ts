/**
 * A host that fails on the cursor where its listing was to go on: what tells that it has forgotten it from an outage,
 * which is waited for.
 */
import { formatCid } from '@sluice/atproto/cid.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import { INGESTER_DONE } from '@sluice/streams/cursors.ts'
import type { ReposOptions } from './repos.ts'
import { demandSweep } from './sweep-demand.ts'
import { reposOf } from './testing/repos.ts'
import { test, WAIT, type Tools } from './testing/run.ts'
import { Stranger } from './testing/stranger.ts'
import { parseUpstream } from './upstream.ts'

const OLD = 'of long ago'
const LONG_MS = 6 * 3_600_000
/** Of one host of a relay's list, in one sweep. */
const TRIES = 5
/** With answers that are no XRPC. */
const NOT_XRPC_TRIES = 4
/** Between two tries. */
const BACKOFF = { baseMs: 1, capMs: 5, healthyAfterMs: 0 }

/** A host of one repository for each of its pages, and the cursors that it is asked for. */
async function listing(pages = 1, failingWith = { status: 503, body: '' }) {
  const repos = Array.from({ length: pages }, (_, i) => new TestRepo(testDid(`of page ${i}`)))
  for (const repo of repos) repo.write([])
  const failing = new Set<string | null>([OLD])
  const host = await Stranger.start(({ searchParams }, response) => {
    const cursor = searchParams.get('cursor')
    if (failing.has(cursor)) return void response.writeHead(failingWith.status).end(failingWith.body)
    const at = cursor === OLD || cursor === null ? 0 : Number(cursor)
    const { did, commit, rev } = repos[at]!
    const next = at + 1 < pages && { cursor: String(at + 1) }
    response.end(JSON.stringify({ repos: [{ did, head: formatCid(commit!), rev }], ...next }))
  })
  const asked = () => host.requests.map(({ searchParams }) => searchParams.get('cursor'))
  return { host, repos, failing, asked, [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() }
}

/** All has been listed once, and a sweep of the host is at its old cursor. */
async function sweepAt(tools: Tools, { host }: { host: string }, relay: { host: string } = { host }): Promise<void> {
  for (const name of [host, relay.host]) await tools.redis.set(`repo_backfill:cursor:${name}`, INGESTER_DONE)
  await tools.redis.set(sweepKey({ host }), OLD)
}

const sweepKey = ({ host }: { host: string }) => `repo_backfill:sweep:cursor:${host}`
const stuckKey = ({ host }: { host: string }) => `repo_backfill:sweep:stuck:${host}`

function sweeping(tools: Tools, options: Pick<ReposOptions, 'source' | 'upstreams'>) {
  const http = new HttpClient({ allowPrivate: true })
  const stop = new AbortController()
  const seen = { failures: 0, log: '' }
  const write = (line: string): void => void (seen.log += line)
  const log = createLogger({ role: 'ingester', build: 'test', destination: { write } })
  const observer = { listed() {}, phase() {}, waiting() {}, hostFailed: () => void seen.failures++ }
  const repos = reposOf(tools, { xrpc: new XrpcClient(http), log, observer, backoff: BACKOFF, ...options })
  const running = repos.run(stop.signal)
  const end = async (): Promise<void> => {
    stop.abort()
    await running
    await http.close()
  }
  return { seen, [Symbol.asyncDispose]: end }
}

async function sweep({ redis }: Tools, why: string): Promise<void> {
  await demandSweep(redis, 'repo_backfill', why)
  await expect.poll(() => redis.get(sweepDemandKey('repo_backfill')), WAIT).toBeNull()
}

/** As if it had begun to fail so long ago. */
async function failingFor({ redis }: Tools, host: { host: string }, ms: number): Promise<void> {
  expect(await redis.exists(stuckKey(host))).toBe(1)
  await redis.hSet(stuckKey(host), 'since', new Date(Date.now() - ms).toISOString())
}

/** As processes before this one have left it: it failed on its old cursor for long. */
async function failedBefore({ redis }: Tools, host: { host: string }): Promise<void> {
  const since = new Date(Date.now() - 2 * LONG_MS).toISOString()
  await redis.hSet(stuckKey(host), { cursor: OLD, since, tries: '100' })
}

test('one that fails on it for hours, whatever the sweep or process, and lists from the start, is listed from there', async ({
  tools,
}) => {
  await using at = await listing(2)
  const { host, repos, asked } = at
  await using relay = await FakeRelay.start()
  relay.directory.hosts = [{ hostname: host.host }]
  await sweepAt(tools, host, relay)
  const hosts = { source: 'hosts', upstreams: [parseUpstream(relay.url)!] } as const
  {
    await using before = sweeping(tools, hosts)
    await sweep(tools, 'one')
    expect(before.seen.failures).toBe(1)
  }
  expect(asked()).toEqual(Array(TRIES).fill(OLD))
  expect(await tools.redis.get(sweepKey(host))).toBe(OLD)
  // Of a host that is never listed again nothing stays.
  expect(await tools.redis.pTTL(stuckKey(host))).toBeGreaterThan(2 * 86_400_000)
  await failingFor(tools, host, LONG_MS)
  await using after = sweeping(tools, hosts)
  await sweep(tools, 'two')
  // Ten tries, then the start; and the cursor once more, should the host have come back in between.
  expect(asked().slice(TRIES)).toEqual([...Array(TRIES).fill(OLD), null, OLD, '1'])
  expect(await tools.redis.get(sweepKey(host))).toBe(INGESTER_DONE)
  expect((await tools.requests()).map(({ did }) => did)).toEqual(repos.map(({ did }) => did))
  expect(after.seen.failures).toBe(1)
  expect(after.seen.log).toContain(`"times":1`)
  expect(await tools.redis.exists(stuckKey(host))).toBe(0)
})

test.for(['relay', 'hosts'] as const)(
  'one that refuses it in a JSON of its own, as relays in Go do, is listed from the start at once (%s)',
  async (source, { tools }) => {
    await using at = await listing(1, { status: 400, body: '{"message":"invalid cursor: of long ago"}' })
    const { host, repos, asked } = at
    await using relay = await FakeRelay.start()
    relay.directory.hosts = [{ hostname: host.host }]
    await sweepAt(tools, host, relay)
    const upstream = source === 'relay' ? host : relay
    await using process = sweeping(tools, { source, upstreams: [parseUpstream(upstream.url)!] })
    await demandSweep(tools.redis, 'repo_backfill', 'a test')
    await expect.poll(() => tools.redis.get(sweepKey(host)), WAIT).toBe(INGESTER_DONE)
    expect(asked()).toEqual([...Array(NOT_XRPC_TRIES).fill(OLD), null])
    expect((await tools.requests()).map(({ did }) => did)).toEqual(repos.map(({ did }) => did))
    expect(process.seen.failures).toBe(0)
  },
)

test('one that has failed on it often, but not for hours, is waited for', async ({ tools }) => {
  await using at = await listing()
  const { host, asked } = at
  await sweepAt(tools, host)
  await using process = sweeping(tools, { source: 'relay', upstreams: [parseUpstream(host.url)!] })
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  await expect.poll(() => asked().length, WAIT).toBeGreaterThan(30)
  await failingFor(tools, host, LONG_MS - 600_000)
  const before = asked().length
  await expect.poll(() => asked().length, WAIT).toBeGreaterThan(before + 5)
  expect(new Set(asked())).toEqual(new Set([OLD]))
  await failingFor(tools, host, LONG_MS)
  await expect.poll(() => tools.redis.get(sweepKey(host)), WAIT).toBe(INGESTER_DONE)
  expect(process.seen.failures).toBe(1)
})

test('one that fails on its start as well is down: it is waited for, and goes on at the cursor', async ({ tools }) => {
  await using at = await listing()
  const { host, failing, asked } = at
  failing.add(null)
  await sweepAt(tools, host)
  await failedBefore(tools, host)
  await using process = sweeping(tools, { source: 'relay', upstreams: [parseUpstream(host.url)!] })
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  await expect.poll(() => asked().filter((cursor) => cursor === null).length, WAIT).toBeGreaterThan(2)
  expect(await tools.redis.get(sweepKey(host))).toBe(OLD)
  failing.clear()
  await expect.poll(() => tools.redis.get(sweepKey(host)), WAIT).toBe(INGESTER_DONE)
  expect(asked().at(-1)).toBe(OLD)
  expect(process.seen.failures).toBe(0)
  expect(await tools.redis.exists(stuckKey(host))).toBe(0)
})

test('one that fails at the same place again is told of each time, hours apart, and not listed anew meanwhile', async ({
  tools,
}) => {
  await using at = await listing(2)
  const { host, failing, asked } = at
  failing.add('1')
  await sweepAt(tools, host)
  await failedBefore(tools, host)
  await using process = sweeping(tools, { source: 'relay', upstreams: [parseUpstream(host.url)!] })
  await demandSweep(tools.redis, 'repo_backfill', 'a test')
  const starts = () => asked().filter((cursor) => cursor === null).length
  for (const times of [1, 2]) {
    const before = asked().length
    await expect.poll(() => asked().length, WAIT).toBeGreaterThan(before + 30)
    expect([starts(), process.seen.failures]).toEqual([times, times])
    expect(process.seen.log).toContain(`"times":${times}`)
    expect(await tools.redis.get(sweepKey(host))).toBe('1')
    await failingFor(tools, host, LONG_MS)
    await expect.poll(starts, WAIT).toBe(times + 1)
  }
  failing.clear()
  await expect.poll(() => tools.redis.get(sweepKey(host)), WAIT).toBe(INGESTER_DONE)
  expect(await tools.redis.exists(stuckKey(host))).toBe(0)
})

test('a relay that fails on a cursor of its list of hosts gives that from the start, and no host is listed twice; one that is down is waited for', async ({
  tools,
}) => {
  await using one = await FakeRelay.start()
  await using two = await FakeRelay.start()
  for (const host of [one, two]) {
    const repo = new TestRepo(testDid(host.host))
    repo.write([])
    host.register(repo)
  }
  // It has forgotten what it gave out first, and is down for a while when it is asked from the start.
  const asked = (): (string | null)[] => relay.requests.map(({ searchParams }) => searchParams.get('cursor'))
  await using relay = await Stranger.start(({ searchParams }, response) => {
    const cursor = searchParams.get('cursor')
    const times = asked().filter((other) => other === cursor).length
    const isDown = cursor === null && times > 1 && times <= 30
    if (cursor === 'forgotten' || isDown) return void response.writeHead(503).end()
    const first = { hosts: [{ hostname: one.host }], cursor: times === 1 ? 'forgotten' : 'new' }
    response.end(JSON.stringify(cursor === null ? first : { hosts: [{ hostname: two.host }] }))
  })
  await using process = sweeping(tools, { source: 'hosts', upstreams: [parseUpstream(relay.url)!] })
  await expect.poll(() => tools.redis.get(`repo_backfill:cursor:${relay.host}`), WAIT).toBe(INGESTER_DONE)
  expect(asked()).toEqual([null, ...Array(10).fill('forgotten'), ...Array(30).fill(null), 'new'])
  expect((await tools.requests()).length).toBe(2)
  for (const host of [one, two]) expect(host.directory.asked('/xrpc/com.atproto.sync.listRepos')).toBe(1)
  expect(process.seen.failures).toBe(1)
  expect(process.seen.log).toContain('fails on a cursor of its list of hosts')
})
