/**
 * Labels come from the oldest on, each believed only with its author's signature, and a labeler that fails holds up no
 * other.
 */
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { random } from '@sluice/atproto/testing/random.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { labelEventCodec } from '@sluice/events/codec.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { envOf, test, TestIngester, WAIT, type Tools } from './testing/run.ts'

const DID = testDid('labeler')
const KEY = testKey('labeler')
const ENV = { INGESTER_MODE: 'labeler' }
/** For what takes seconds on an idle machine. */
const LONG = { timeout: 120_000, interval: 50 }

interface Special {
  src?: string
  key?: typeof KEY
  neg?: boolean
  uri?: string
}

function label(val: string, { src = DID, key = KEY, ...more }: Special = {}) {
  const unsigned = { ver: 1, src, uri: 'did:plc:subject', val, cts: '2026-01-01T00:00:00.000Z', ...more }
  return { ...unsigned, sig: key.sign(encodeCbor(unsigned)) }
}

async function labeler(): Promise<FakeRelay> {
  const relay = await FakeRelay.start()
  relay.directory.documents.set(DID, {
    id: DID,
    verificationMethod: [
      { id: `${DID}#atproto_label`, type: 'Multikey', controller: DID, publicKeyMultibase: KEY.multibase },
    ],
    service: [{ id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: relay.url }],
  })
  return relay
}

async function vals({ redis }: Tools): Promise<string[]> {
  return (await redis.xRange('label_live', '-', '+'))!.map(({ message }) => labelEventCodec.decode(message).label.val)
}

const cursor = async ({ redis }: Tools, { host }: FakeRelay) => redis.get(`label_live:cursor:${host}`)

test('labels from before we came are read, in order, with their signature, once', async ({ tools }) => {
  await using relay = await labeler()
  for (let i = 0; i < 20; i++) relay.message('#labels', { labels: [label(`a${i}`), label(`b${i}`, { neg: true })] })
  const first = await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url, INGESTER_BATCH_SIZE: '3' })
  await expect.poll(() => cursor(tools, relay), WAIT).toBe('20')
  expect(await vals(tools)).toEqual(Array.from({ length: 20 }, (_, i) => [`a${i}`, `b${i}`]).flat())
  await first.stop()
  relay.message('#labels', { labels: [label('later')] })
  await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  await expect.poll(() => cursor(tools, relay), WAIT).toBe('21')
  expect((await vals(tools)).length).toBe(41)
  expect(relay.cursors).toEqual([0, 20])
  const [entry] = (await tools.redis.xRange('label_live', '-', '+', { COUNT: 1 }))!
  expect(labelEventCodec.decode(entry!.message)).toMatchObject({ seq: 1, label: { src: DID, sig: { $bytes: /.+/ } } })
})

test('what cannot be believed is left out, and its neighbours are not', async ({ tools }) => {
  await using relay = await labeler()
  const { sig, ...unsigned } = label('unsigned')
  relay.message('#labels', {
    labels: [
      label('good'),
      label('forged', { key: testKey('a forger') }),
      unsigned,
      { ...label('stranger'), src: 'nobody' },
      { val: 'no label' },
      { ...label('changed'), val: 'otherwise' },
    ],
  })
  relay.send(Buffer.from('garbage'))
  relay.message('#labels', { labels: [label('after')] })
  const ingester = await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  await expect.poll(() => cursor(tools, relay), WAIT).toBe('2')
  expect(sig.length).toBe(64)
  expect(await vals(tools)).toEqual(['good', 'after'])
  const counts = { appended: 2, 'bad-signature': 2, unsigned: 1, 'bad-author': 1, malformed: 2 }
  for (const [outcome, count] of Object.entries(counts)) {
    expect([outcome, await ingester.metric('sluice_ingester_labels_total', { outcome })]).toEqual([outcome, count])
  }
  expect(relay.directory.asked(`/${DID}`)).toBe(2)
})

test('a label that PostgreSQL cannot hold is left out, whoever signed it', async ({ tools }) => {
  await using relay = await labeler()
  const uri = `at://${random('a long label').bytes(2_500).toString('hex')}`
  const labels = [label('with\u0000'), label('long', { uri }), label('good')]
  relay.message('#labels', { labels })
  const ingester = await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  await expect.poll(() => cursor(tools, relay), WAIT).toBe('1')
  expect(await vals(tools)).toEqual(['good'])
  expect(await ingester.metric('sluice_ingester_labels_total', { outcome: 'malformed' })).toBe(2)
})

test('a labeler without a declared key is taken at its word', async ({ tools }) => {
  await using relay = await labeler()
  const plain = testDid('plain labeler')
  relay.directory.documents.set(plain, { id: plain, verificationMethod: [], service: [] })
  relay.message('#labels', { labels: [label('plain', { src: plain })] })
  await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  await expect.poll(() => vals(tools), WAIT).toEqual(['plain'])
})

test('a labeler that fails holds up no other', async ({ tools }) => {
  await using good = await labeler()
  await using bad = await labeler()
  bad.error = 'InternalServerError'
  good.message('#labels', { labels: [label('good')] })
  const ingester = await tools.ingest(good, { ...ENV, LABELER_HOSTS: `${bad.url},${good.url},127.0.0.1:1` })
  await expect.poll(() => vals(tools), WAIT).toEqual(['good'])
  const failures = () => ingester.metric('sluice_ingester_labeler_reconnects_total', { reason: 'error-frame' })
  await expect.poll(failures, WAIT).toBeGreaterThan(0)
  bad.error = undefined
  bad.message('#labels', { labels: [label('at last')] })
  await expect.poll(() => vals(tools), WAIT).toContain('at last')
})

test('D7 a full stream of labels holds a labeler back, and nothing is dropped', async ({ tools }) => {
  await using relay = await labeler()
  const all = Array.from({ length: 200 }, (_, i) => `l${i}`)
  for (const val of all) relay.message('#labels', { labels: [label(val)] })
  const limits = { INGESTER_LABEL_STREAM_HIGH_WATER_MARK: '20', INGESTER_BATCH_SIZE: '10' }
  const ingester = await tools.ingest(relay, { ...ENV, ...limits, LABELER_HOSTS: relay.url })
  const held = () => ingester.metric('sluice_ingester_backpressure', { stream: 'label_live', by: 'entries' })
  await expect.poll(held, WAIT).toBe(1)
  expect(await tools.redis.xLen('label_live')).toBeLessThanOrEqual(30)
  const drained: string[] = []
  const drain = async (): Promise<string[]> => {
    const entries = (await tools.redis.xRange('label_live', '-', '+'))!
    drained.push(...entries.map(({ message }) => labelEventCodec.decode(message).label.val))
    for (const { id } of entries) await tools.redis.xDel('label_live', id)
    return drained
  }
  await expect.poll(drain, WAIT).toEqual(all)
})

test('a labeler that was set up anew is told of, and begun anew where that is allowed', async ({ tools }) => {
  await using relay = await labeler()
  relay.message('#labels', { labels: [label('new')] })
  await tools.redis.set(`label_live:cursor:${relay.host}`, '500')
  const first = await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  await expect.poll(() => tools.incidents(), WAIT).toEqual(['future-cursor'])
  expect(await cursor(tools, relay)).toBe('500')
  await first.stop()
  await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url, INGESTER_FUTURE_CURSOR_RESET: 'true' })
  await expect.poll(() => tools.incidents(), WAIT).toEqual(['future-cursor', 'future-cursor'])
  // It is asked again after half a minute.
  await expect.poll(() => vals(tools), { ...WAIT, timeout: 45_000 }).toEqual(['new'])
  expect(await cursor(tools, relay)).toBe('1')
})

test('O1 a labeler that says time and again that it has lost labels is told of once', async ({ tools }) => {
  await using relay = await labeler()
  const lost = encodeFrame('#info', { name: 'OutdatedCursor', message: 'as the labeler says' })
  const ingester = await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  for (const val of ['one', 'two']) {
    relay.send(lost)
    relay.message('#labels', { labels: [label(val)] })
    await expect.poll(() => cursor(tools, relay), WAIT).toBe(String(relay.seq))
    relay.disconnect()
    await expect.poll(() => relay.cursors.at(-1), WAIT).toBe(relay.seq)
  }
  expect(await vals(tools)).toEqual(['one', 'two'])
  await ingester.stop()
  const said = ingester.log.join('').matchAll(/"OutdatedCursor":\{"count":(\d+)/g)
  expect([...said].reduce((sum, [, count]) => sum + Number(count), 0)).toBe(2)
  expect(await tools.incidents()).toEqual(['outdated-cursor'])
})

test('D6 labels that Redis has lost are read again: it came back older, or was emptied', async ({ tools }) => {
  await using relay = await labeler()
  await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  const send = async (...names: string[]): Promise<void> => {
    for (const name of names) relay.message('#labels', { labels: [label(name)] })
    await expect.poll(() => cursor(tools, relay), WAIT).toBe(String(relay.seq))
  }
  await send('a', 'b', 'c')
  const [, ...lost] = (await tools.redis.xRange('label_live', '-', '+'))!.map(({ id }) => id)
  expect(await tools.redis.xDel('label_live', lost)).toBe(2)
  await tools.redis.set(`label_live:cursor:${relay.host}`, '1')
  await send('d')
  expect(await vals(tools)).toEqual(['a', 'b', 'c', 'd'])
  await tools.redis.flushDb()
  await send('e')
  expect(await vals(tools)).toEqual(['a', 'b', 'c', 'd', 'e'])
  expect(relay.cursors).toEqual([0, 1, 0])
})

test('D1 a labeler that another ingester reads too is left to that one', async ({ redisUrl, tools }) => {
  await using relay = await labeler()
  const ingester = await TestIngester.start({ ...envOf(relay, redisUrl), ...ENV, LABELER_HOSTS: relay.url })
  relay.message('#labels', { labels: [label('one')] })
  await expect.poll(() => cursor(tools, relay), WAIT).toBe('1')
  await tools.redis.set(`label_live:cursor:${relay.host}`, '7')
  relay.message('#labels', { labels: [label('two')] })
  expect(await ingester.ended).toBe(1)
  expect([await cursor(tools, relay), await vals(tools)]).toEqual(['7', ['one']])
  await expect(ingester.stop()).rejects.toThrow('another ingester reads the same host')
})

test('D1 a labeler whose seq goes back moves no cursor back', async ({ tools }) => {
  await using relay = await labeler()
  for (const val of ['one', 'two']) relay.message('#labels', { labels: [label(val)] })
  relay.send(encodeFrame('#labels', { seq: 1, labels: [label('late')] }))
  await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url, INGESTER_BATCH_SIZE: '1' })
  await expect.poll(() => cursor(tools, relay), WAIT).toBe('2')
  relay.message('#labels', { labels: [label('three')] })
  await expect.poll(() => cursor(tools, relay), WAIT).toBe('3')
  expect(await vals(tools)).toEqual(['one', 'two', 'three'])
})

test('a labeler that sends garbage and talks much does not fill the log', async ({ tools }) => {
  await using relay = await labeler()
  for (let i = 0; i < 1_000; i++) {
    relay.send(Buffer.from('garbage'))
    relay.send(encodeFrame('#info', { name: `News ${i}`, message: 'x'.repeat(10_000) }))
  }
  relay.message('#labels', { labels: [label('after')] })
  const ingester = await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  await expect.poll(() => cursor(tools, relay), WAIT).toBe('1')
  expect(await ingester.metric('sluice_ingester_labels_total', { outcome: 'malformed' })).toBe(1_000)
  await ingester.stop()
  const log = ingester.log.join('')
  expect(ingester.log.length).toBeLessThan(20)
  expect(log.length).toBeLessThan(10_000)
  expect(log.match(/"count":1000,"sample":"127/g)?.length).toBe(2)
})

test('what a labeler calls its news is its own affair, and so is what its document calls a key', async ({ tools }) => {
  await using relay = await labeler()
  const odd = testDid('odd labeler')
  const key = { id: '#atproto_label', type: 'constructor', publicKeyMultibase: KEY.multibase }
  relay.directory.documents.set(odd, { id: odd, verificationMethod: [key], service: [] })
  for (const name of ['constructor', '__proto__', 'toString']) relay.send(encodeFrame('#info', { name }))
  relay.message('#labels', { labels: [label('plain', { src: odd })] })
  await tools.ingest(relay, { ...ENV, LABELER_HOSTS: relay.url })
  await expect.poll(() => vals(tools), WAIT).toEqual(['plain'])
  expect(await tools.incidents()).toEqual([])
})

test('without labelers there is nothing to do, and that is well', async ({ tools }) => {
  await using relay = await labeler()
  const ingester = await tools.ingest(relay, ENV)
  await ingester.stop()
  expect(relay.cursors).toEqual([])
})

test('labelers that declare themselves are followed, and only their own signed labels count', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await using found = await labeler()
  relay.directory.documents.set(DID, found.directory.documents.get(DID)!)
  relay.directory.collectors = [DID, testDid('no labeler after all')]
  const other = testDid('somebody else')
  found.message('#labels', { labels: [label('own'), label('of another', { src: other })] })
  const ingester = await tools.ingest(relay, { ...ENV, INGESTER_LABELER_DISCOVERY: 'true' })
  await expect.poll(() => cursor(tools, found), WAIT).toBe('1')
  expect(await vals(tools)).toEqual(['own'])
  const discovered = { host: 'discovered' }
  expect(await ingester.metric('sluice_ingester_labelers_connected', discovered)).toBe(1)
  expect(await ingester.metric('sluice_ingester_labels_total', { ...discovered, outcome: 'bad-author' })).toBe(1)
})

test('any number of relays and labelers can be named', { timeout: 300_000 }, async ({ tools }) => {
  await using relay = await labeler()
  const named = (network: number): string[] =>
    Array.from({ length: 200 }, (_, i) => `http://127.0.${network}.${i + 1}:9`)
  const ingester = await tools.ingest(relay, {
    INGESTER_MODE: 'all',
    RELAY_HOSTS: [...named(1), relay.url].join(),
    LABELER_HOSTS: [...named(2), relay.url].join(),
  })
  relay.message('#labels', { labels: [label('arrives')] })
  // Behind four hundred connections that are refused, each of them tried again and again.
  await expect.poll(() => vals(tools), LONG).toEqual(['arrives'])
  const refused = { host: '127.0.1.200:9', reason: 'refused' }
  await expect.poll(() => ingester.metric('sluice_ingester_reconnects_total', refused), LONG).toBeGreaterThan(0)
})
