/**
 * What an ingester does when its relay, its directory or its Redis is not as it should be: it waits, says so, and loses
 * nothing.
 */
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { listIncidents } from '@sluice/streams/incidents.ts'
import { caughtUp, test, TestIngester, envOf, WAIT, type Tools } from './testing/run.ts'
import { Stranger } from './testing/stranger.ts'

const TIME = '2026-01-01T00:00:00.000Z'
let number = 0
const post = (collection = 'app.bsky.feed.post'): Write => ({
  path: `${collection}/r${number++}`,
  record: { $type: collection, text: 'hello', createdAt: TIME },
})

async function stage(...names: string[]) {
  const relay = await FakeRelay.start()
  const repos = names.map((name) => new TestRepo(testDid(name)))
  relay.register(...repos)
  return { relay, repos, [Symbol.asyncDispose]: () => relay.close() }
}

test('without a cursor, and not told where, it begins now', async ({ tools }) => {
  await using at = await stage('alice')
  const { relay, repos } = at
  for (let i = 0; i < 4; i++) relay.commit(repos[0]!, [post()])
  const now = await tools.ingest(relay, { INGESTER_INITIAL_CURSOR: '' })
  await expect.poll(() => relay.cursors, WAIT).toEqual([undefined])
  await expect.poll(() => now.metric('sluice_ingester_connected'), WAIT).toBe(1)
  relay.commit(repos[0]!, [post()])
  await caughtUp(tools, relay)
  expect((await tools.events()).length).toBe(1)
})

test('a stop drains, and the next start goes on behind it, not where the configuration begins', async ({ tools }) => {
  await using at = await stage('alice')
  const { relay, repos } = at
  for (let i = 0; i < 50; i++) relay.commit(repos[0]!, [post()])
  const first = await tools.ingest(relay)
  await caughtUp(tools, relay)
  await first.stop()
  relay.commit(repos[0]!, [post()])
  await tools.ingest(relay)
  await caughtUp(tools, relay)
  expect(relay.cursors).toEqual([0, 50])
  expect(await tools.ledger(relay)).toEqual({ appended: 51 })
})

test('events that the relay no longer has are an incident, and a sweep is asked for', async ({ tools }) => {
  await using at = await stage('alice')
  const { relay, repos } = at
  for (let i = 0; i < 10; i++) relay.commit(repos[0]!, [post()])
  await tools.redis.set(`firehose_live:cursor:${relay.host}`, '2')
  relay.oldest = 6
  await tools.ingest(relay)
  await caughtUp(tools, relay)
  expect(await tools.incidents()).toContain('outdated-cursor')
  expect(await tools.redis.get(sweepDemandKey('repo_backfill'))).toMatch(/^outdated-cursor/)
  expect(await tools.ledger(relay)).toEqual({ appended: 5 })
})

test('D10 a cursor ahead of the relay waits for the operator, and is asked again slowly', async ({ tools }) => {
  await using at = await stage('alice')
  const { relay, repos } = at
  relay.commit(repos[0]!, [post()])
  await tools.redis.set(`firehose_live:cursor:${relay.host}`, '1000')
  const ingester = await tools.ingest(relay)
  await expect.poll(() => tools.incidents(), WAIT).toContain('future-cursor')
  await expect
    .poll(
      () => ingester.log.some((line) => line.includes('the connection to') && /next try in [3-9]\d\./.test(line)),
      WAIT,
    )
    .toBe(true)
  expect(relay.cursors).toEqual([1000])
  expect(await tools.cursor(relay)).toBe('1000')
  expect(await tools.redis.get(sweepDemandKey('repo_backfill'))).toBeNull()
})

/** A relay that knows our cursor, and sends nothing but what lies behind it. */
async function setUpAnew(tools: Tools, env: Record<string, string>) {
  const at = await stage('alice')
  const { relay, repos } = at
  const writes = Array.from({ length: 1_200 }, () => post())
  relay.commit(repos[0]!, [post()])
  await tools.redis.set(`firehose_live:cursor:${relay.host}`, '5000')
  relay.send(relay.commit(repos[0]!, [post()]).bytes, 5_001)
  const ingester = await tools.ingest(relay, env)
  await expect.poll(() => ingester.metric('sluice_ingester_connected'), WAIT).toBe(1)
  for (const write of writes) relay.send(repos[0]!.write([write]).bytes, undefined)
  await expect.poll(() => tools.incidents(), WAIT).toContain('future-cursor')
  return { relay, ingester, [Symbol.asyncDispose]: () => relay.close() }
}

test('a relay that was set up anew without a word is noticed by what it sends, and begun at its oldest event', async ({
  tools,
}) => {
  // Without INGESTER_INITIAL_CURSOR a relay for which there is no cursor begins now. This one has a cursor: 0.
  const env = { INGESTER_FUTURE_CURSOR_RESET: 'true', INGESTER_INITIAL_CURSOR: '' }
  await using at = await setUpAnew(tools, env)
  const { relay } = at
  await expect.poll(() => relay.cursors.length, WAIT).toBeGreaterThan(1)
  expect(relay.cursors[1]).toBe(0)
  await expect.poll(() => tools.redis.get(sweepDemandKey('repo_backfill')), WAIT).toMatch(/^future-cursor/)
})

test('D10 while that waits for the operator it is not read, and asked again slowly', async ({ tools }) => {
  await using at = await setUpAnew(tools, {})
  const { relay, ingester } = at
  await expect.poll(() => relay.connected, WAIT).toBe(0)
  const reason = { reason: 'future-cursor' }
  await expect.poll(() => ingester.metric('sluice_ingester_reconnects_total', reason), WAIT).toBe(1)
  expect(await ingester.metric('sluice_ingester_connected')).toBe(0)
  expect(ingester.log.join('')).toMatch(/was closed, next try in 3\d\./)
  expect(relay.cursors).toEqual([5000])
  expect(await tools.cursor(relay)).toBe('5000')
})

test('two relays that send the same are absorbed by rev, each with its own cursor', async ({ tools }) => {
  await using one = await stage('alice', 'bob')
  await using two = await stage('carol')
  const [alice, bob] = one.repos
  for (let i = 0; i < 30; i++) {
    const { body } = one.relay.commit(i % 3 === 0 ? alice! : bob!, [post()])
    two.relay.message('#commit', body)
  }
  await tools.ingest(one.relay, { RELAY_HOSTS: `${one.relay.url},${two.relay.url}` })
  await caughtUp(tools, one.relay)
  await caughtUp(tools, two.relay)
  expect((await tools.events()).length).toBe(30)
  const ledgers = [await tools.ledger(one.relay), await tools.ledger(two.relay)]
  expect(ledgers.map(({ appended = 0, duplicate = 0 }) => appended + duplicate)).toEqual([30, 30])
  expect(ledgers.reduce((sum, { appended = 0 }) => sum + appended, 0)).toBe(30)
  expect(await tools.requests()).toEqual([])
})

test('what is not wanted is left out, and the chain goes on; prefixes end at a dot', async ({ tools }) => {
  await using at = await stage('alice')
  const { relay, repos } = at
  const alice = repos[0]!
  relay.commit(alice, [post(), post('app.bskyother.foo')])
  relay.commit(alice, [post('app.bskyother.foo')])
  relay.commit(alice, [post('app.bsky.feed.like')])
  await tools.ingest(relay, { INGESTER_COLLECTIONS: 'app.bsky.*' })
  await caughtUp(tools, relay)
  expect((await tools.events()).map((event) => 'collection' in event && event.collection)).toEqual([
    'app.bsky.feed.post',
    'app.bsky.feed.like',
  ])
  expect(await tools.ledger(relay)).toEqual({ appended: 2, filtered: 1 })
  expect(await tools.requests()).toEqual([])
})

test('accounts that are to be skipped are left out', async ({ tools }) => {
  await using at = await stage('alice', 'bob')
  const { relay, repos } = at
  for (const repo of repos) relay.commit(repo, [post()])
  await tools.ingest(relay, { INGESTER_SKIP_DIDS: repos[1]!.did })
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toEqual({ appended: 1, 'refused:skipped-account': 1 })
})

test('a directory that is down holds up the cursor and drops nothing', async ({ tools }) => {
  await using at = await stage('alice', 'bob')
  const { relay, repos } = at
  relay.directory.isDown = true
  for (const repo of repos) relay.commit(repo, [post()])
  const ingester = await tools.ingest(relay)
  await expect.poll(() => ingester.metric('sluice_ingester_identity_waits_total'), WAIT).toBeGreaterThan(2)
  expect(await tools.cursor(relay)).toBeNull()
  relay.directory.isDown = false
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toEqual({ appended: 2 })
})

test.for([
  { name: 'one that holds more than an account may', accounts: 1, commits: 5, chars: 500_000 },
  { name: 'many that hold little each, and too much together', accounts: 24, commits: 1, chars: 100_000 },
])(
  'did:webs whose hosts never say who they are hold up nobody else: $name',
  async ({ accounts, commits, chars }, { tools }) => {
    await using at = await stage('bob')
    await using hosts = new AsyncDisposableStack()
    const { relay, repos } = at
    const text = 'x'.repeat(chars)
    const silent: Stranger[] = []
    for (let i = 0; i < accounts; i++) {
      const host = hosts.use(await Stranger.start(() => {}))
      silent.push(host)
      const repo = new TestRepo(`did:web:localhost%3A${host.host.split(':')[1]}`)
      for (let n = 0; n < commits; n++) {
        const { path, record } = post()
        relay.commit(repo, [{ path, record: { ...record, text } }])
      }
    }
    relay.commit(repos[0]!, [post()])
    await tools.ingest(relay, { INGESTER_MEMORY_BYTES: '2mb' })
    // Of what is still waited for the cursor stands before, for a minute.
    await expect.poll(async () => (await tools.events()).map(({ did }) => did), WAIT).toEqual([repos[0]!.did])
    const asked = silent.filter(({ requests }) => requests.length > 0)
    expect(asked.length).toBeGreaterThan(0)
    const requests = await tools.requests()
    expect(requests.length).toBeGreaterThan(accounts / 2)
    for (const { did, reason } of requests) expect([did, reason]).toEqual([expect.stringMatching(/^did:web:/), 'gap'])
  },
)

test('a new key counts from #identity on, and without it from the first signature that fails', async ({ tools }) => {
  await using at = await stage('alice', 'bob')
  const { relay, repos } = at
  const [alice, bob] = repos as [TestRepo, TestRepo]
  for (const repo of repos) relay.commit(repo, [post()])
  await tools.ingest(relay)
  await caughtUp(tools, relay)
  alice.key = testKey('new key of alice', 'p256')
  bob.key = testKey('new key of bob')
  relay.message('#identity', { did: alice.did, time: TIME })
  relay.commit(alice, [post()])
  relay.commit(bob, [post()])
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toEqual({ appended: 5 })
  expect(relay.directory.asked(`/${alice.did}`)).toBe(2)
  expect(relay.directory.asked(`/${bob.did}`)).toBe(2)
  // Within a minute nobody asks again, however many forgeries come.
  bob.key = testKey('a forger of bob')
  relay.directory.repos.set(bob.did, Object.assign(new TestRepo(bob.did), { key: testKey('new key of bob') }))
  for (let i = 0; i < 20; i++) relay.commit(bob, [post()])
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toMatchObject({ 'refused:bad-signature': 20 })
  expect(relay.directory.asked(`/${bob.did}`)).toBe(2)
})

test.for(['proof', 'off'])(
  'with INGESTER_VERIFY=%s nobody is asked for keys, and the chain is followed',
  async (level, { tools }) => {
    await using at = await stage('alice')
    const { relay, repos } = at
    const alice = repos[0]!
    relay.commit(alice, [post()])
    alice.key = testKey('somebody else')
    relay.commit(alice, [post()])
    alice.write([post()])
    relay.commit(alice, [post()])
    await tools.ingest(relay, { INGESTER_VERIFY: level })
    await caughtUp(tools, relay)
    expect(await tools.ledger(relay)).toEqual({ appended: 3 })
    expect(await tools.requests()).toMatchObject([{ reason: 'gap' }])
    expect(relay.directory.asked('/did:')).toBe(0)
  },
)

test('D7 at the high-water mark the connection is closed after a while, and resumed from the cursor', async ({
  tools,
}) => {
  await using at = await stage('alice')
  const { relay, repos } = at
  for (let i = 0; i < 300; i++) relay.commit(repos[0]!, [post()])
  const ingester = await tools.ingest(relay, {
    INGESTER_FIREHOSE_STREAM_HIGH_WATER_MARK: '20',
    INGESTER_BATCH_SIZE: '10',
    INGESTER_MEMORY_BYTES: '1mb',
    INGESTER_PAUSE_MS: '500',
  })
  const closed = () => ingester.metric('sluice_ingester_reconnects_total', { reason: 'backpressure' })
  const big = {
    path: 'app.bsky.feed.post/big',
    record: { $type: 'app.bsky.feed.post', text: 'x'.repeat(900_000), createdAt: TIME },
  }
  relay.commit(repos[0]!, [big])
  for (let i = 0; i < 100; i++) relay.commit(repos[0]!, [post()])
  await expect.poll(closed, WAIT).toBeGreaterThan(0)
  const held = { stream: 'firehose_live', by: 'entries' }
  await expect.poll(() => ingester.metric('sluice_ingester_backpressure', held), WAIT).toBe(1)
  expect(await tools.redis.xLen('firehose_live')).toBeLessThanOrEqual(30)
  let drained = 0
  await expect
    .poll(async () => {
      const entries = await tools.redis.xRange('firehose_live', '-', '+')
      if (entries!.length > 0)
        drained += await tools.redis.xDel(
          'firehose_live',
          entries!.map(({ id }) => id),
        )
      return tools.cursor(relay)
    }, WAIT)
    .toBe(String(relay.seq))
  expect(drained + (await tools.redis.xLen('firehose_live'))).toBe(401)
  expect(await tools.ledger(relay)).toEqual({ appended: 401 })
  expect(relay.cursors.length).toBeGreaterThan(1)
})

test('a Redis that can lose data is an incident, or no Redis at all with REDIS_STRICT', async () => {
  await using at = await stage('alice')
  await using server = await startRedis({ appendonly: false })
  const env = { ...envOf(at.relay, server.url()), METRICS_PORT: '0' }
  await expect(TestIngester.start({ ...env, REDIS_STRICT: 'true' })).rejects.toThrow(/appendonly is off.*REDIS_STRICT/)
  const lax = await TestIngester.start(env)
  expect(lax.log.join('')).toContain('appendonly is off')
  expect(await lax.metric('sluice_incidents_total', { kind: 'redis-settings' })).toBe(1)
  await lax.stop()
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  expect((await listIncidents(redis, 10)).map(({ kind }) => kind)).toEqual(['redis-settings'])
  redis.destroy()
})

test('A3: the late word of a host that an account has left is taken back: its own host is asked', async ({ tools }) => {
  await using at = await stage('alice', 'bobby')
  const { relay, repos } = at
  const [alice, bobby] = repos
  relay.directory.inactive.set(bobby!.did, 'deactivated')
  const ingester = await tools.ingest(relay)
  for (const { did } of [alice!, bobby!]) {
    relay.commit(did === alice!.did ? alice! : bobby!, [post()])
    relay.message('#account', { did, time: TIME, active: false, status: 'deactivated' })
  }
  await expect.poll(() => ingester.metric('sluice_ingester_account_checks_total', { answer: 'differs' }), WAIT).toBe(1)
  await expect.poll(() => ingester.metric('sluice_ingester_account_checks_total', { answer: 'as-held' }), WAIT).toBe(1)
  const said = (await tools.events()).flatMap((event) => (event.type === 'account' ? [[event.did, event.active]] : []))
  expect(said).toEqual(expect.arrayContaining([[alice!.did, false], [bobby!.did, false], [alice!.did, true]])) // prettier-ignore
  expect(said.length).toBe(3)
  expect(said.findLast(([did]) => did === alice!.did)).toEqual([alice!.did, true])
})

test('A3: the word of a host whose clock is ahead does not win over what its account says later', async ({ tools }) => {
  await using at = await stage('alice')
  const { relay, repos } = at
  const { did } = repos[0]!
  const ingester = await tools.ingest(relay)
  relay.commit(repos[0]!, [post()])
  relay.message('#account', { did, time: '2999-01-01T00:00:00.000Z', active: false, status: 'deactivated' })
  relay.message('#identity', { did, time: '2999-01-01T00:00:00.000Z' })
  await expect.poll(() => ingester.metric('sluice_ingester_account_checks_total', { answer: 'differs' }), WAIT).toBe(1)
  await caughtUp(tools, relay)
  const events = await tools.events()
  const said = events.flatMap((event) => (event.type === 'account' ? event : []))
  expect(said).toMatchObject([{ active: false }, { active: true }])
  expect(Date.parse(said[0]!.time)).toBeLessThanOrEqual(Date.parse(said[1]!.time))
  const atCursor = await tools.redis.get(`firehose_live:time:${relay.host}`)
  for (const time of [...events.map((event) => event.time), atCursor!])
    expect(Date.parse(time)).toBeLessThanOrEqual(Date.now())
})
