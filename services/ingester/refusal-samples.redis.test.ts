/**
 * Samples of what was refused: which frame it was, byte for byte; bounded, whatever strangers send; and of no concern
 * to the frames that are taken.
 */
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { resigned } from '@sluice/atproto/testing/scene.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import {
  countSamples,
  keptKey,
  listSamples,
  readSample,
  refusedFramesKey,
  refusedStream,
  type RefusedFrame,
} from '@sluice/streams/refused-frames.ts'
import { RefusalSamples, type SampleOutcome } from './refusal-samples.ts'
import { path, post } from './testing/misbehaviours.ts'
import { caughtUp, envOf, test, TestIngester, WAIT, type Tools } from './testing/run.ts'

const STREAM = 'firehose_live'
const LABELS = 'label_live'
const FRAME: RefusedFrame = {
  reason: 'bad-signature',
  detail: 'not by did:key:z',
  host: 'relay.example',
  seq: 7,
  did: testDid('alice'),
  type: 'commit',
  bytes: Buffer.alloc(100, 'x'),
}
const SAMPLES = 'sluice_ingester_refusal_samples_total'

/** A commit of the account that somebody else signed, as the relay sends it. */
function forged(relay: FakeRelay, repo: TestRepo): Buffer {
  const made = repo.write([{ path: path(1), record: post('forged') }])
  const body = resigned({ repo, made, state: { rev: '', data: repo.data } }, {}, testKey('somebody else'))
  const bytes = encodeFrame('#commit', { ...body, seq: relay.seq + 1 })
  relay.send(bytes, relay.seq + 1)
  return bytes
}

async function samples({ redis }: Tools, stream = STREAM) {
  return listSamples(redis, stream, { count: 100 })
}

test('a refused frame is found with its host, seq, account and bytes; of a commit that lacks an op the path is told', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  const bytes = forged(relay, alice)
  relay.send(Buffer.from('no frame at all'))
  const writes = [
    { path: 'no-nsid/3kaaaaaaaaa22', record: post('lost') },
    { path: path(2), record: post('sibling') },
  ]
  relay.commit(alice, writes)
  await tools.ingest(relay)
  await caughtUp(tools, relay)
  await expect.poll(async () => (await samples(tools)).length, WAIT).toBe(3)
  const found = Object.fromEntries((await samples(tools)).map((sample) => [sample.reason, sample]))
  const from = { stream: STREAM, host: relay.host }
  expect(found).toMatchObject({
    'bad-signature': { ...from, seq: 1, did: alice.did, type: 'commit', detail: expect.stringContaining('not by did:key:') as string, frameBytes: bytes.length }, // prettier-ignore
    'frame-bad-header': { ...from, did: '', type: 'unreadable' },
    'op-bad-path': { ...from, seq: 2, did: alice.did, detail: '1 of its ops, the first is no-nsid/3kaaaaaaaaa22' },
  })
  const frameOf = async (reason: string) => (await readSample(tools.redis, STREAM, found[reason]!.id))!.frame
  expect(await frameOf('bad-signature')).toEqual(bytes)
  expect(await frameOf('frame-bad-header')).toEqual(Buffer.from('no frame at all'))
})

test('a label that is refused is found beside its stream, with its author and its frame', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const [did, key] = [testDid('labeler'), testKey('labeler')]
  relay.directory.documents.set(did, {
    id: did,
    verificationMethod: [
      { id: `${did}#atproto_label`, type: 'Multikey', controller: did, publicKeyMultibase: key.multibase },
    ],
    service: [{ id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: relay.url }],
  })
  const unsigned = { ver: 1, src: did, uri: 'did:plc:subject', val: 'spam', cts: '2026-01-01T00:00:00.000Z' }
  const sig = testKey('a forger').sign(encodeCbor(unsigned))
  const bytes = encodeFrame('#labels', { labels: [{ ...unsigned, sig }, { val: 'no label' }], seq: 1 })
  relay.send(bytes, 1)
  await tools.ingest(relay, { INGESTER_MODE: 'labeler', LABELER_HOSTS: relay.url })
  await expect.poll(async () => (await samples(tools, LABELS)).length, WAIT).toBe(2)
  const [forgery, malformed] = (await samples(tools, LABELS)).toSorted((a, b) => (a.reason < b.reason ? -1 : 1))
  expect(forgery).toMatchObject({ reason: 'bad-signature', host: relay.host, seq: 1, did, type: 'labels', detail: 'spam on did:plc:subject' }) // prettier-ignore
  expect(malformed).toMatchObject({ reason: 'malformed', detail: '1 items are no labels that can be stored' })
  expect((await readSample(tools.redis, LABELS, forgery!.id))!.frame).toEqual(bytes)
})

test('where samples cannot be stored, frames are taken and refused as ever, and the metric tells', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const [alice, bob] = [new TestRepo(testDid('alice')), new TestRepo(testDid('bob'))]
  relay.register(alice, bob)
  await tools.redis.set(keptKey(STREAM), 'of another program')
  forged(relay, alice)
  relay.commit(bob, [{ path: path(0), record: post('good') }])
  const ingester = await tools.ingest(relay)
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toEqual({ appended: 1, 'refused:bad-signature': 1 })
  await expect.poll(() => ingester.metric(SAMPLES, { outcome: 'failed' }), WAIT).toBe(1)
  expect(await tools.redis.exists([refusedStream(STREAM), refusedFramesKey(STREAM)])).toBe(0)
})

test('in a full Redis samples are given up, and frames only wait: with room they go on', async ({ onTestFinished }) => {
  await using server = await startRedis({ maxmemory: '20mb' })
  await using relay = await FakeRelay.start()
  const [alice, bob] = [new TestRepo(testDid('alice')), new TestRepo(testDid('bob'))]
  relay.register(alice, bob)
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  onTestFinished(() => redis.destroy())
  // The account's key is in the cache by then, and the ingester's own mark does not hold it back.
  relay.commit(alice, [{ path: path(0), record: post('first') }])
  const ingester = await TestIngester.start({ ...envOf(relay, server.url()), INGESTER_REDIS_MEMORY_PERCENT: '100' })
  const cursor = () => redis.get(`${STREAM}:cursor:${relay.host}`)
  await expect.poll(cursor, WAIT).toBe('1')
  await redis.configSet('maxmemory', '500kb')
  forged(relay, alice)
  await expect.poll(() => ingester.metric(SAMPLES, { outcome: 'failed' }), WAIT).toBe(1)
  expect(await cursor()).toBe('1')
  await redis.configSet('maxmemory', '20mb')
  await expect.poll(cursor, WAIT).toBe('2')
  expect(await redis.exists(refusedStream(STREAM))).toBe(0)
  await ingester.stop()
})

/** Samples by a clock of the test. */
function samplesOf(redis: Redis, clock: { ms: number }) {
  const outcomes: SampleOutcome[] = []
  const kept = new RefusalSamples({ redis, stream: STREAM, onOutcome: (outcome) => void outcomes.push(outcome), now: () => clock.ms }) // prettier-ignore
  const count = (wanted: SampleOutcome) => outcomes.filter((outcome) => outcome === wanted).length
  const flood = async (reason: string, frames: number): Promise<void> => {
    const before = outcomes.length
    for (let i = 0; i < frames; i++) kept.note({ ...FRAME, reason })
    await expect.poll(() => outcomes.length, WAIT).toBe(before + frames)
  }
  return { kept, outcomes, count, flood }
}

test('of a flood five are stored at once, and then one in ten seconds; what is rare is stored all the same', async ({
  tools,
}) => {
  const clock = { ms: 0 }
  const { count, flood } = samplesOf(tools.redis, clock)
  await flood('bad-signature', 10_000)
  expect([count('stored'), count('left-out')]).toEqual([5, 9_995])
  await flood('cbor-float', 1)
  expect(count('stored')).toBe(6)
  for (let second = 1; second <= 100; second++) {
    clock.ms += 1_000
    await flood('bad-signature', 50)
  }
  expect(await countSamples(tools.redis, STREAM)).toEqual(new Map([['bad-signature', 15], ['cbor-float', 1]])) // prettier-ignore
})

test('of floods of every reason there is, four a second are stored', async ({ tools }) => {
  const clock = { ms: 0 }
  const { count, flood } = samplesOf(tools.redis, clock)
  const reasons = Array.from({ length: 80 }, (_, i) => `reason-${i}`)
  for (const reason of reasons) await flood(reason, 3)
  expect(count('stored')).toBe(10)
  for (let second = 1; second <= 10; second++) {
    clock.ms += 1_000
    for (const reason of reasons) await flood(reason, 3)
  }
  expect(count('stored')).toBe(10 + 4 * 10)
})

test('while Redis does not answer nine are held, each cut, and the rest is left out at once', async ({
  onTestFinished,
}) => {
  await using server = await startRedis()
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  onTestFinished(() => redis.destroy())
  const clock = { ms: 0 }
  const { kept, outcomes, count } = samplesOf(redis, clock)
  server.pause()
  const bytes = Buffer.alloc(1_000_000, 'x')
  for (let i = 0; i < 60; i++) {
    // Long enough for the rates: what is left out is left out since too many wait.
    clock.ms += 10_000
    kept.note({ ...FRAME, reason: `reason-${i % 5}`, bytes })
  }
  bytes.fill('y')
  expect(outcomes).toEqual(Array.from({ length: 51 }, () => 'left-out'))
  server.resume()
  await expect.poll(() => count('stored'), WAIT).toBe(9)
  const [newest] = await listSamples(redis, STREAM, { count: 1 })
  const { sample, frame } = (await readSample(redis, STREAM, newest!.id))!
  expect(sample.frameBytes).toBe(1_000_000)
  expect(frame.equals(Buffer.alloc(65_536, 'x'))).toBe(true)
})
