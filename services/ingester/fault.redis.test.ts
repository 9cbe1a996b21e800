/** A fault of ours ends the live stream with that fault. What came before is stored, and nothing moves past it. */
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { Readiness } from '@sluice/runtime/readiness.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { WHOLE } from '@sluice/streams/spread.ts'
import { Firehose } from './firehose.ts'
import { firehoseMetrics } from './metrics.ts'
import type { Verifying } from './pipeline.ts'
import { SigningKeys } from './signing-keys.ts'
import { test, WAIT, type Tools } from './testing/run.ts'
import { parseUpstream } from './upstream.ts'
import { Verifier } from './verifier.ts'

const POST: Write = {
  path: 'app.bsky.feed.post/one',
  record: { $type: 'app.bsky.feed.post', text: 'hello', createdAt: '2026-01-01T00:00:00.000Z' },
}

/** The live stream of one relay from its oldest frame on, without signatures. */
function firehoseOf({ redis }: Tools, relay: FakeRelay, verifying: Verifying, http: HttpClient): Firehose {
  const identity = { role: 'ingester', build: 'test' }
  const stream = 'firehose_live'
  const highWater = new HighWater({ redis, stream, entriesMax: 1e6 })
  const gauges = { underWayBytes: () => 0, eventTimeMs: () => undefined }
  return new Firehose({
    redis,
    producer: new Producer({ redis, stream, codec: { encode: (event: string) => ({ event }) }, highWater }),
    keys: new SigningKeys({ plcUrl: relay.url, http, cache: new MemoryIdentityCache() }),
    verifying,
    log: createLogger({ ...identity, destination: { write: () => {} } }),
    readiness: new Readiness(),
    metrics: firehoseMetrics(new Metrics(identity), [relay.host], gauges),
    samples: { note() {} },
    upstreams: [parseUpstream(relay.url)!],
    needsKeys: false,
    memoryBytes: 1e8,
    batchEvents: 1_000,
    batchMs: 50,
    repoStream: 'repo_backfill',
    repoEntriesMax: 1_000,
    resyncsPerSecond: 10,
    relay: {
      initialCursor: 0,
      futureCursorReset: false,
      idleMs: 60_000,
      pauseMs: 60_000,
      skipDids: new Set(),
      shard: WHOLE,
    },
    recordIncident: ({ what }) => expect.fail(what),
    onSuspects: () => {},
  })
}

test('D1 a fault of ours in the last frame that comes ends the live stream with that fault, before that frame', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const http = new HttpClient({ allowPrivate: true })
  const [alice, bob] = ['alice', 'bob'].map((name) => new TestRepo(testDid(name))) as [TestRepo, TestRepo]
  for (const repo of [alice, bob]) relay.commit(repo, [POST])
  const verifier = new Verifier({ level: 'off', collections: ['*'] })
  const verifying: Verifying = {
    async verify(frame) {
      // The relay has sent all that it has, and is read when the fault happens.
      if (frame.did === bob.did) await expect.poll(() => tools.cursor(relay), WAIT).toBe('1')
      if (frame.did === bob.did) throw new Error('a fault of ours')
      return verifier.verify(frame, undefined)
    },
  }
  const firehose = firehoseOf(tools, relay, verifying, http)
  await expect(firehose.run(new AbortController().signal)).rejects.toThrow('a fault of ours')
  expect(await tools.cursor(relay)).toBe('1')
  expect(await tools.events()).toMatchObject([{ did: alice.did }])
  await expect.poll(() => relay.connected, WAIT).toBe(0)
  await http.close()
})
