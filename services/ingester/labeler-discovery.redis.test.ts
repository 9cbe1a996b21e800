/**
 * Labelers that nobody configured: all that a host sends for, once each, each with its key, whenever they are found,
 * within little memory.
 */
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import type { CachedResolution } from '@sluice/atproto/identity-cache.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { labelEventCodec } from '@sluice/events/codec.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { RedisIdentityCache } from '@sluice/streams/identity-cache.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { discoverLabelers } from './labeler-discovery.ts'
import { Labeler } from './labeler.ts'
import { Labels } from './labels.ts'
import { SigningKeys } from './signing-keys.ts'
import { test, WAIT, type Tools } from './testing/run.ts'
import { Stranger } from './testing/stranger.ts'
import { parseUpstream, type Upstream } from './upstream.ts'

const [ONE, TWO, OTHER] = ['one', 'two', 'other'].map((name) => testDid(`labeler ${name}`)) as [string, string, string]
const DISCOVERY = { INGESTER_MODE: 'labeler', INGESTER_LABELER_DISCOVERY: 'true' }

/** Each labeler has a key of its own, and may sign with that of another. */
function label(src: string, val: string, key = testKey(src)) {
  const unsigned = { ver: 1, src, uri: 'did:plc:subject', val, cts: '2026-01-01T00:00:00.000Z' }
  return { ...unsigned, sig: key.sign(encodeCbor(unsigned)) }
}

/** Its document, and its record as the relay lists it. @param key undefined: it has none */
function declare(relay: FakeRelay, did: string, host: FakeRelay, key: ReturnType<typeof testKey> | undefined): void {
  relay.directory.documents.set(did, {
    id: did,
    verificationMethod: key && [{ id: `${did}#atproto_label`, type: 'Multikey', publicKeyMultibase: key.multibase }],
    service: [{ id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: host.url }],
  })
  relay.directory.collectors = [...new Set([...relay.directory.collectors, did])]
}

async function vals({ redis }: Tools): Promise<string[]> {
  return (await redis.xRange('label_live', '-', '+'))!.map(({ message }) => labelEventCodec.decode(message).label.val)
}

const cursor = async ({ redis }: Tools, { host }: FakeRelay) => redis.get(`label_live:cursor:${host}`)

/** Sends labels of one and of two, when only one was found, and passes those of two by. */
async function hearOne(tools: Tools, relay: FakeRelay, host: FakeRelay): Promise<void> {
  declare(relay, ONE, host, testKey(ONE))
  host.message('#labels', { labels: [label(ONE, 'of one'), label(TWO, 'of two')] })
  const first = await tools.ingest(relay, { ...DISCOVERY })
  await expect.poll(() => cursor(tools, host), WAIT).toBe('1')
  await first.stop()
}

/** Documents are looked up anew. */
async function forgetDocuments({ redis }: Tools): Promise<void> {
  for await (const keys of redis.scanIterator({ MATCH: 'sluice:identity:*' }))
    if (keys.length > 0) await redis.del(keys)
}

test('a host may be that of several labelers, and each of them counts', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  await using elsewhere = await FakeRelay.start()
  declare(relay, ONE, host, testKey(ONE))
  declare(relay, TWO, host, testKey(TWO))
  declare(relay, OTHER, elsewhere, testKey(OTHER))
  const labels = [label(ONE, 'of one'), label(TWO, 'of two'), label(OTHER, 'of another host'), label(testDid('x'), 'x')]
  host.message('#labels', { labels })
  const first = await tools.ingest(relay, { ...DISCOVERY })
  await expect.poll(() => vals(tools).then((all) => new Set(all)), WAIT).toEqual(new Set(['of one', 'of two']))
  await first.stop()

  // Which of them is found first makes no difference afterwards, and nothing is read again.
  relay.directory.collectors = relay.directory.collectors.toReversed()
  host.message('#labels', { labels: [label(ONE, 'more of one'), label(TWO, 'more of two')] })
  const before = host.cursors.length
  await tools.ingest(relay, { ...DISCOVERY })
  await expect.poll(() => cursor(tools, host), WAIT).toBe('2')
  expect((await vals(tools)).slice(-2)).toEqual(['more of one', 'more of two'])
  expect(host.cursors.slice(before)).toEqual([1])
})

test('who declares more labelers than are followed in all, at hosts below one domain or at one host, leaves room to others', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  const at = (name: string, url: string) => {
    const did = testDid(name)
    declare(relay, did, { url } as FakeRelay, testKey(did))
  }
  for (let i = 0; i < 30; i++) at(`below ${i}`, `https://h${i}.evil.invalid`)
  for (let i = 0; i < 30; i++) at(`at ${i}`, 'https://another.invalid')
  declare(relay, ONE, host, testKey(ONE))
  host.message('#labels', { labels: [label(ONE, 'of one')] })
  const ingester = await tools.ingest(relay, { ...DISCOVERY, INGESTER_LABELERS_MAX: '40' })
  await expect.poll(() => vals(tools), WAIT).toEqual(['of one'])
  const log = ingester.log.join('')
  for (const owner of ['evil.invalid', 'another.invalid']) expect(log).toContain(`16 labelers of ${owner} are followed`)
  expect(log).not.toContain('INGESTER_LABELERS_MAX labelers are followed')
})

test('labels that were passed by come when their labeler is found later', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  await hearOne(tools, relay, host)
  expect(await vals(tools)).toEqual(['of one'])
  declare(relay, TWO, host, testKey(TWO))
  await tools.ingest(relay, { ...DISCOVERY })
  await expect.poll(() => vals(tools), WAIT).toContain('of two')
})

test('a host that is configured after it was found is read from its oldest label on, for everybody', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  await hearOne(tools, relay, host)
  const configured = { INGESTER_MODE: 'labeler', LABELER_HOSTS: host.url }
  const second = await tools.ingest(relay, configured)
  await expect.poll(() => vals(tools), WAIT).toEqual(['of one', 'of one', 'of two'])
  await second.stop()
  await tools.ingest(relay, configured)
  await expect.poll(() => host.cursors.at(-1), WAIT).toBe(1)
})

test('a labeler that is found while its host is followed is read from its oldest label on', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  declare(relay, ONE, host, testKey(ONE))
  host.message('#labels', { labels: [label(ONE, 'of one'), label(TWO, 'of two')] })
  const stop = new AbortController()
  await using running = discovering(tools, relay, stop)
  await expect.poll(() => cursor(tools, host), WAIT).toBe('1')
  expect(await vals(tools)).toEqual(['of one'])
  declare(relay, TWO, host, testKey(TWO))
  await expect.poll(() => vals(tools), WAIT).toContain('of two')
  host.message('#labels', { labels: [label(TWO, 'live')] })
  await expect.poll(() => vals(tools), WAIT).toContain('live')
  expect(host.connected).toBe(1)
  await running.stop()
})

test('an account whose host never says who it is holds up no labeler that is listed behind it', async ({ tools }) => {
  await using silent = await Stranger.start(() => {})
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  relay.directory.collectors = [`did:web:localhost%3A${silent.host.split(':')[1]}`]
  declare(relay, ONE, host, testKey(ONE))
  host.message('#labels', { labels: [label(ONE, 'of one')] })
  await tools.ingest(relay, { ...DISCOVERY })
  await expect.poll(() => vals(tools), WAIT).toEqual(['of one'])
  expect(silent.requests.length).toBeGreaterThan(0)
})

test('nobody is taken at his word: without a key a labeler is not believed, and not lost when it has one again', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  declare(relay, TWO, host, undefined)
  declare(relay, ONE, host, testKey(ONE))
  const { sig: _, ...unsigned } = label(TWO, 'unsigned')
  host.message('#labels', { labels: [unsigned, label(TWO, 'signed'), label(ONE, 'of one')] })
  const first = await tools.ingest(relay, { ...DISCOVERY })
  await expect.poll(() => cursor(tools, host), WAIT).toBe('1')
  expect(await vals(tools)).toEqual(['of one'])

  // It loses its key, and signs with one that nobody can know yet.
  declare(relay, ONE, host, undefined)
  host.message('#labels', { labels: [label(ONE, 'with a new key', testKey('new'))] })
  await expect.poll(() => cursor(tools, host), WAIT).toBe('2')
  const undeclared = { host: 'discovered', outcome: 'undeclared' }
  expect(await first.metric('sluice_ingester_labels_total', undeclared)).toBe(1)
  await first.stop()
  await forgetDocuments(tools)
  declare(relay, ONE, host, testKey('new'))
  await tools.ingest(relay, { ...DISCOVERY })
  await expect.poll(() => vals(tools), WAIT).toEqual(['of one', 'with a new key'])
})

test('also where commits are taken without their signatures a labeler that was found has to sign', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  declare(relay, ONE, host, testKey(ONE))
  const { sig: _, ...unsigned } = label(ONE, 'unsigned')
  host.message('#labels', { labels: [unsigned, label(ONE, 'forged', testKey('a forger')), label(ONE, 'signed')] })
  await tools.ingest(relay, { ...DISCOVERY, INGESTER_VERIFY: 'off' })
  await expect.poll(() => cursor(tools, host), WAIT).toBe('1')
  expect(await vals(tools)).toEqual(['signed'])
})

test('A4 a stranger who declares a labeler at a private address has nobody connect to it', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await using inside = await FakeRelay.start()
  declare(relay, ONE, inside, testKey(ONE))
  declare(relay, TWO, { url: 'https://labeler.invalid' } as FakeRelay, testKey(TWO))
  inside.message('#labels', { labels: [label(ONE, 'of one')] })
  const ingester = await tools.ingest(relay, { ...DISCOVERY, ALLOW_PRIVATE_HOSTS: 'false' })
  const failed = () => ingester.metric('sluice_ingester_labeler_reconnects_total', { host: 'discovered' })
  await expect.poll(failed, WAIT).toBeGreaterThan(0)
  expect(relay.directory.asked(`/${ONE}`)).toBe(1)
  expect(inside.cursors).toEqual([])
  const found = ingester.log.filter((line) => line.includes('found a labeler'))
  expect(found).toEqual([expect.stringContaining('labeler.invalid')])
})

test('a stranger takes little memory: large frames are for labelers that were configured', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  declare(relay, ONE, host, testKey(ONE))
  const large = { labels: Array.from({ length: 1_000 }, (_, i) => label(ONE, `${i}`)) }
  host.message('#labels', large)
  const first = await tools.ingest(relay, { ...DISCOVERY })
  const tooLarge = { host: 'discovered', reason: 'frame-too-large' }
  const cut = () => first.metric('sluice_ingester_labeler_reconnects_total', tooLarge)
  await expect.poll(cut, WAIT).toBeGreaterThan(0)
  expect(await vals(tools)).toEqual([])
  await first.stop()
  await forgetDocuments(tools)
  await tools.ingest(relay, { INGESTER_MODE: 'labeler', LABELER_HOSTS: host.url })
  await expect.poll(async () => (await vals(tools)).length, WAIT).toBe(1_000)
})

/** The services of `INGESTER_LABELER_DISCOVERY`, looking for labelers all the time. */
function discovering({ redis }: Tools, relay: FakeRelay, stop: AbortController) {
  const log = createLogger({ role: 'ingester', build: 'test', destination: { write: () => undefined } })
  const http = new HttpClient({ allowPrivate: true })
  const keys = new SigningKeys({
    plcUrl: relay.url,
    http,
    cache: new RedisIdentityCache<CachedResolution>({ redis }),
  })
  const highWater = new HighWater({ redis, stream: 'label_live', entriesMax: 1e9 })
  const producer = new Producer({ redis, stream: 'label_live', codec: labelEventCodec, highWater })
  const observer = { labels: () => undefined, connected: () => undefined, disconnected: () => undefined }
  const refusals = { note: () => undefined, hear: () => undefined }
  const settings = { batchEvents: 10, publicOnly: false, futureCursorReset: false }
  const samples = { note: () => undefined }
  const common = { redis, producer, keys, log, refusals, samples, observer, ...settings }
  const discovery = {
    xrpc: new XrpcClient(http),
    keys,
    relays: [parseUpstream(relay.url)!],
    known: [],
    max: 10,
    log,
    everyMs: 10,
    labelerAt: ({ upstream, did }: { upstream: Upstream; did: string }) => ({
      host: upstream.host,
      labeler: new Labeler({ ...common, upstream, did, recordIncident: () => Promise.resolve() }),
    }),
  }
  const labels = new Labels({
    log,
    labelers: [],
    discover: (follow, signal) => discoverLabelers({ ...discovery, follow }, signal),
  })
  const running = labels.run(stop.signal)
  const end = async (): Promise<void> => {
    stop.abort()
    await running
    await http.close()
  }
  return { stop: end, [Symbol.asyncDispose]: end }
}
