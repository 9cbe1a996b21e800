/** Whose host answers is asked how its accounts stand, however many hosts there are that never answer. */
import { HttpClient } from '@sluice/atproto/http.ts'
import type { CachedResolution } from '@sluice/atproto/identity-cache.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { RedisIdentityCache } from '@sluice/streams/identity-cache.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { vi } from 'vitest'
import { AccountCheck } from './account-check.ts'
import { SigningKeys } from './signing-keys.ts'
import { test, WAIT } from './testing/run.ts'
import { Stranger } from './testing/stranger.ts'

const TIME = '2026-01-01T00:00:00.000Z'
const CHECKS = 'sluice_ingester_account_checks_total'
const SILENT = 200

/**
 * Hosts that are asked how an account stands, and say nothing.
 * @param says what they say to anything else; default: nothing
 */
async function silentHosts(says?: (host: Stranger) => object) {
  const hosts: Stranger[] = []
  for (let i = 0; i < SILENT; i++) {
    const host = await Stranger.start(({ pathname }, response) => {
      if (says && !pathname.startsWith('/xrpc/')) response.end(JSON.stringify(says(host)))
    })
    hosts.push(host)
  }
  const isKept = ({ requests }: Stranger) => requests.some(({ pathname }) => !says || pathname.startsWith('/xrpc/'))
  const end = async () => void (await Promise.all(hosts.map((host) => host[Symbol.asyncDispose]())))
  return { hosts, asked: () => hosts.filter(isKept).length, [Symbol.asyncDispose]: end }
}

const webDid = ({ host }: Stranger) => `did:web:localhost%3A${host.split(':')[1]}`

const documentOf = (id: string, serviceEndpoint: string) => {
  return { id, service: [{ id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint }] }
}

test.for([
  { name: 'are the directory of their account', didOf: webDid },
  { name: 'are what a document names', didOf: ({ host }: Stranger) => testDid(host) },
  {
    name: 'say who their account is, and no more',
    didOf: webDid,
    says: (host: Stranger) => documentOf(webDid(host), host.url.replace('127.0.0.1', 'localhost')),
  },
])(
  'hundreds of silent hosts that $name keep no account of another from being asked about',
  async ({ didOf, says }, { tools }) => {
    await using relay = await FakeRelay.start()
    await using silent = await silentHosts(says)
    const [alice, bob] = ['alice', 'bob'].map((name) => new TestRepo(testDid(name)))
    relay.register(alice!, bob!)
    const inactive = (did: string) =>
      relay.message('#account', { did, time: TIME, active: false, status: 'deactivated' })
    const ingester = await tools.ingest(relay)
    const differs = () => ingester.metric(CHECKS, { answer: 'differs' })
    inactive(alice!.did)
    await expect.poll(differs, WAIT).toBe(1)
    for (const host of silent.hosts) {
      relay.directory.documents.set(didOf(host), documentOf(didOf(host), host.url))
      inactive(didOf(host))
    }
    await expect.poll(silent.asked, WAIT).toBeGreaterThanOrEqual(8)
    inactive(bob!.did)
    await expect.poll(differs, WAIT).toBe(2)
    // A few at a time, as before.
    expect(silent.asked()).toBeLessThan(SILENT / 2)
  },
)

test('A1 the repository of an account that is found to be active again is asked for', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  const path = 'app.bsky.feed.post/3kaaaaaaaaa22'
  relay.commit(alice, [{ path, record: { $type: 'app.bsky.feed.post', text: '', createdAt: TIME } }])
  relay.message('#account', { did: alice.did, time: TIME, active: false, status: 'deactivated' })
  const ingester = await tools.ingest(relay)
  await expect.poll(() => ingester.metric(CHECKS, { answer: 'differs' }), WAIT).toBe(1)
  expect(await tools.requests()).toMatchObject([{ did: alice.did, rev: alice.rev, reason: 'reactivated' }])
})

test('A3 what a host says is dated before it was asked: what the account says meanwhile is newer', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  let askedAt = NaN
  await using host = await Stranger.start((_, response) => {
    askedAt = Date.now()
    setTimeout(() => response.end(JSON.stringify({ did: alice.did, active: true })), 100)
  })
  relay.directory.pds = host.url
  relay.message('#account', { did: alice.did, time: TIME, active: false, status: 'deactivated' })
  const ingester = await tools.ingest(relay)
  await expect.poll(() => ingester.metric(CHECKS, { answer: 'differs' }), WAIT).toBe(1)
  const said = (await tools.events()).at(-1)!
  expect(said).toMatchObject({ type: 'account', did: alice.did, active: true })
  expect(Date.parse(said.time)).toBeLessThanOrEqual(askedAt)
})

/** The checks alone, as the service has them. */
function checksOf(redis: Redis, plcUrl: string, onAnswer: () => void) {
  const http = new HttpClient({ allowPrivate: true })
  const [stream, repoStream] = ['firehose_live', 'repo_backfill']
  const highWater = new HighWater({ redis, stream, entriesMax: 1e6 })
  const checks = new AccountCheck({
    redis,
    producer: new Producer({ redis, stream, codec: { encode: (event: string) => ({ event }) }, highWater }),
    repoStream,
    xrpc: new XrpcClient(http),
    keys: new SigningKeys({ plcUrl, http, cache: new RedisIdentityCache<CachedResolution>({ redis }) }),
    log: createLogger({ role: 'ingester', build: 'test', destination: { write: () => {} } }),
    onAnswer,
  })
  return { checks, [Symbol.asyncDispose]: () => http.close() }
}

test('a fault of ours ends it at once, though no other account is suspected', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  await using it = checksOf(tools.redis, relay.url, () => {
    throw new Error('a fault of ours')
  })
  const running = it.checks.run(new AbortController().signal)
  it.checks.suspect([alice.did])
  await expect(running).rejects.toThrow('a fault of ours')
  expect(relay.directory.asked('/xrpc/com.atproto.sync.getRepoStatus')).toBe(1)
})

test('an account is asked about once in an hour, however often it is suspected', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const names = ['alice', 'first', 'second', 'third', 'fourth']
  const [alice, ...others] = names.map((name) => new TestRepo(testDid(name))) as [TestRepo, ...TestRepo[]]
  relay.register(alice, ...others)
  let answers = 0
  await using it = checksOf(tools.redis, relay.url, () => void answers++)
  const asked = ({ did }: TestRepo) => {
    const query = `/xrpc/com.atproto.sync.getRepoStatus?did=${encodeURIComponent(did)}`
    return relay.directory.requests.filter((request) => request === query).length
  }
  let passedMs = 0
  const now = performance.now.bind(performance)
  vi.spyOn(performance, 'now').mockImplementation(() => now() + passedMs)
  const stop = new AbortController()
  const running = it.checks.run(stop.signal)
  try {
    for (const [other, ms, times] of [
      [others[0]!, 0, 1],
      [others[1]!, 0, 1],
      [others[2]!, 3_000_000, 1],
      [others[3]!, 3_600_000, 2],
    ] as const) {
      passedMs = ms
      it.checks.suspect([alice.did, other.did])
      // Their host is asked one question at a time, and who alice is was told before: she would be asked about first.
      await expect.poll(() => asked(other), WAIT).toBe(1)
      await expect.poll(() => [asked(alice), answers], WAIT).toEqual([times, others.indexOf(other) + 1 + times])
    }
  } finally {
    vi.restoreAllMocks()
    stop.abort()
    await running
  }
})

test('a Redis that stores slowly makes no host a slow one, which told at once who its account is', async () => {
  const hosts: Stranger[] = []
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startRedis())
  const redis = stack.adopt(await connectRedis({ url: server.url(), name: 'test' }), (client) => client.destroy())
  const other = stack.adopt(await connectRedis({ url: server.url(), name: 'other' }), (client) => client.destroy())
  let asked = 0
  for (let i = 0; i < 4; i++) {
    const host = await Stranger.start(({ pathname }, response) => {
      if (!pathname.startsWith('/xrpc/')) {
        const url = host.url.replace('127.0.0.1', 'localhost')
        return void response.end(JSON.stringify(documentOf(webDid(host), url)))
      }
      asked++
      response.on('close', () => asked--)
    })
    hosts.push(stack.use(host))
  }
  const { checks } = stack.use(checksOf(redis, 'http://127.0.0.1:1', () => {}))
  const stop = new AbortController()
  const running = checks.run(stop.signal)
  // Longer than a quick answer takes.
  await other.sendCommand(['CLIENT', 'PAUSE', '4000', 'WRITE'])
  checks.suspect(hosts.map(webDid))
  const stalled = async (): Promise<string> => await other.info('clients')
  await expect.poll(stalled, { ...WAIT, message: 'the fault fired' }).toMatch(/^blocked_clients:[1-9]/m)
  expect(asked).toBe(0)
  // Of hosts of one owner that are slow, no more than two are asked at once.
  await expect.poll(() => asked, WAIT).toBe(4)
  stop.abort()
  await running
})
