/**
 * What is held of frames, and what Redis is given at once, is bounded by what they became, and by what keeping them
 * takes. What was left without a finding lets nothing of its account past it.
 */
import { decodeFrame, type CommitFrame, type SyncFrame } from '@sluice/atproto/frame.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { readChains } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { ledgerKey } from '@sluice/streams/ledger.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { Chains } from './chains.ts'
import type { Finding } from './decide.ts'
import { roomFor } from './event-room.ts'
import { Journal, textBytes, type QueuedFinding } from './journal.ts'
import { Verifier, type Verification, type TrueCommit } from './verifier.ts'
import { Pipeline, type PipelineOptions } from './pipeline.ts'
import type { Slot } from './progress.ts'
import { ResyncLimit } from './resync-limit.ts'
import { SigningKeys } from './signing-keys.ts'
import { Source } from './source.ts'

const STREAM = 'firehose_live'
const CHARS = 500_000
/** In JSON each of the characters is six. */
const EVENT_CHARS = 6 * CHARS
const verifier = new Verifier({ level: 'off', collections: ['*'] })

/** @param ops that all create the same record, of so many characters in all */
function frameOf(seq: number, ops = 1): { frame: CommitFrame; bytes: Buffer } {
  const text = '\u0001'.repeat(CHARS / ops)
  const record = { $type: 'app.bsky.feed.post', text, createdAt: '2026-01-01T00:00:00Z' }
  const writes = Array.from({ length: ops }, (_, i) => ({ path: `app.bsky.feed.post/${i}`, record }))
  const { bytes } = new TestRepo(testDid(`large ${seq}`)).write(writes, { seq })
  return { frame: decodeFrame(bytes) as CommitFrame, bytes }
}

/** @param onStored told of what an append stored, and how many characters its events had */
function journalOf(redis: Redis, onStored: (findings: readonly QueuedFinding[], chars: number) => void) {
  const highWater = new HighWater({ redis, stream: STREAM, entriesMax: 1e6 })
  const codec = { encode: (event: string) => ({ event }), decode: ({ event }: Record<string, string>) => event! }
  const chains = new Chains(redis)
  const journal = new Journal({
    redis,
    producer: new Producer({ redis, stream: STREAM, codec, highWater }),
    chains,
    resyncLimit: new ResyncLimit({ redis, repoStream: 'repo_backfill', perSecond: 10, entriesMax: 10 }),
    repoStream: 'repo_backfill',
    batchEvents: 1_000,
    batchMs: 50,
    isQuiet: () => true,
    observer: {
      stored: (stored, { entries }) =>
        onStored(
          stored,
          entries.reduce((sum, { length }) => sum + length, 0),
        ),
      appended() {},
      conflict() {},
      trouble: (error) => expect.unreachable(error.message),
    },
  })
  return { journal, chains, source: new Source(STREAM, 'relay', undefined) }
}

/** Without signatures. @param failed what became of what should not fail */
function pipelineOf(
  { journal, chains }: Pick<ReturnType<typeof journalOf>, 'journal' | 'chains'>,
  {
    verifying,
    memoryBytes,
    signal,
    failed,
  }: Pick<PipelineOptions, 'verifying' | 'memoryBytes' | 'signal'> & { failed: string[] },
): Pipeline {
  const keys = new SigningKeys({
    plcUrl: 'http://127.0.0.1:1',
    http: { get: () => expect.unreachable('no key is needed') },
    cache: new MemoryIdentityCache(),
  })
  return new Pipeline({
    journal,
    chains,
    keys,
    verifying,
    needsKeys: false,
    memoryBytes,
    signal,
    onFailed: () => void failed.push('failed'),
    onRefused: ({ reason }) => void failed.push(reason),
    onOpsRefused: ({ reason }) => void failed.push(reason),
  })
}

test('to Redis they go one after the other', async ({ redisUrl }) => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    const sent: number[] = []
    const { journal, source } = journalOf(redis, (_, chars) => void sent.push(chars))
    for (let seq = 1; seq <= 4; seq++) {
      const { frame, bytes } = frameOf(seq)
      const finding = { host: 'relay', did: frame.did, what: verifier.verify(frame, undefined) as TrueCommit }
      journal.add({ finding, source, slot: source.progress.take(seq), held: { frame: bytes.length, text: 0 } })
    }
    journal.close()
    await journal.run(AbortSignal.timeout(60_000))
    // 3 MB each, where 4 MB fit.
    expect(sent.length).toBe(4)
    expect(Math.min(...sent)).toBeGreaterThan(EVENT_CHARS)
    expect(await redis.xLen(STREAM)).toBe(4)
    expect(await redis.get(`${STREAM}:cursor:relay`)).toBe('4')
  } finally {
    redis.destroy()
  }
})

test.for([
  ['one record each', 1],
  // Frames of 16 kB.
  ['a hundred ops each that create the same one', 100],
] as const)(
  'before they are verified they wait until there is room for what they may become: %s',
  async ([, ops], { redisUrl }) => {
    const redis = await connectRedis({ url: redisUrl, name: 'test' })
    const memoryBytes = 7_000_000
    const frames = Array.from({ length: 10 }, (_, i) => frameOf(i + 1, ops))
    let [held, most, all] = [0, 0, 0]
    try {
      const signal = AbortSignal.timeout(60_000)
      const { journal, chains, source } = journalOf(redis, (findings, chars) => {
        held -= chars
        pipeline.release(findings)
      })
      const verifying = {
        verify(frame: CommitFrame | SyncFrame): Verification {
          const verification = verifier.verify(frame, undefined) as TrueCommit
          const chars = textBytes(verification)
          held += chars
          all += chars
          most = Math.max(most, held)
          return verification
        },
      }
      const failed: string[] = []
      const pipeline: Pipeline = pipelineOf({ journal, chains }, { verifying, memoryBytes, signal, failed })
      const writing = journal.run(signal)
      for (const { frame, bytes } of frames) {
        await pipeline.push({ source, slot: source.progress.take(frame.seq), frame, bytes })
      }
      await pipeline.drained()
      journal.close()
      await writing
      expect(failed).toEqual([])
      expect(all).toBeGreaterThan(4 * memoryBytes)
      expect(most).toBeLessThanOrEqual(memoryBytes)
      expect(await redis.xLen(STREAM)).toBe(10 * ops)
    } finally {
      redis.destroy()
    }
  },
)

test('one that waits keeps its own bytes, not all that the socket brought with it', async ({ redisUrl }) => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  const [memoryBytes, count] = [4_000_000, 200]
  try {
    const signal = AbortSignal.timeout(60_000)
    const { journal, chains, source } = journalOf(redis, (findings) => pipeline.release(findings))
    const waiting: Buffer[] = []
    const all = Promise.withResolvers<void>()
    const verifying = {
      async verify(frame: CommitFrame | SyncFrame, bytes: Buffer): Promise<Verification> {
        waiting.push(bytes)
        if (waiting.length === count) all.resolve()
        await all.promise
        return verifier.verify(frame, undefined)
      },
    }
    const failed: string[] = []
    const pipeline: Pipeline = pipelineOf({ journal, chains }, { verifying, memoryBytes, signal, failed })
    const writing = journal.run(signal)
    for (let seq = 1; seq <= count; seq++) {
      const record = { $type: 'app.bsky.feed.post', text: 'small', createdAt: '2026-01-01T00:00:00Z' }
      const repo = new TestRepo(testDid(`small ${seq}`))
      const made = repo.write([{ path: 'app.bsky.feed.post/1', record }], { seq })
      const chunk = Buffer.allocUnsafeSlow(65_536)
      const bytes = chunk.subarray(0, made.bytes.copy(chunk))
      const frame = decodeFrame(bytes) as CommitFrame
      await pipeline.push({ source, slot: source.progress.take(seq), frame, bytes })
    }
    await all.promise
    const held = new Set(waiting.map(({ buffer }) => buffer))
    const heldBytes = [...held].reduce((sum, { byteLength }) => sum + byteLength, 0)
    await pipeline.drained()
    journal.close()
    await writing
    expect(failed).toEqual([])
    expect(heldBytes).toBeLessThan(memoryBytes)
    expect(await redis.xLen(STREAM)).toBe(count)
  } finally {
    redis.destroy()
  }
})

test('D8 of what has ended behind a frame that waits little is kept, whatever the directory does', async ({
  redisUrl,
}) => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    let stored = 0
    const { journal, source } = journalOf(redis, (findings) => void (stored += findings.length))
    const running = journal.run(AbortSignal.timeout(60_000))
    const end = (slot: Slot): void => {
      const finding: Finding = { host: 'relay', did: '', what: { kind: 'ended', outcome: 'filtered' } }
      journal.add({ finding, source, slot, held: { frame: 0, text: 0 } })
    }
    const first = source.progress.take(1)
    let most = 0
    for (let seq = 2; seq <= 10_000; seq++) {
      end(source.progress.take(seq))
      if (seq % 500 === 0) await expect.poll(() => stored).toBe(seq - 1)
      most = Math.max(most, source.progress.open)
    }
    expect(most).toBeLessThan(4_000)
    expect(await redis.get(`${STREAM}:cursor:relay`)).toBeNull()
    end(first)
    journal.close()
    await running
    expect(await redis.get(`${STREAM}:cursor:relay`)).toBe('10000')
    expect(await redis.hGetAll(ledgerKey(STREAM, 'relay'))).toEqual({ filtered: '10000' })
  } finally {
    redis.destroy()
  }
})

test('D1 a stop leaves a frame that waits for room, and with it all later ones of its account: they are read again', async ({
  redisUrl,
}) => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    const { journal, chains, source } = journalOf(redis, (findings) => pipeline.release(findings))
    const running = journal.run(AbortSignal.timeout(60_000))
    const stop = new AbortController()
    const held = Promise.withResolvers<void>()
    const begun: string[] = []
    const verifying = {
      async verify(frame: CommitFrame | SyncFrame): Promise<Verification> {
        begun.push(frame.did)
        await held.promise
        return verifier.verify(frame, undefined)
      },
    }
    const failed: string[] = []
    const [bob, alice] = ['bob', 'alice'].map((name) => new TestRepo(testDid(name))) as [TestRepo, TestRepo]
    const frames = [bob, alice, alice].map((repo, i) => {
      const record = { $type: 'app.bsky.feed.post', text: 'x'.repeat(i === 2 ? 10 : 10_000), createdAt: '2026' }
      const { bytes } = repo.write([{ path: `app.bsky.feed.post/${i}`, record }], { seq: i + 1 })
      return { frame: decodeFrame(bytes) as CommitFrame, bytes }
    })
    const rooms = frames.map(({ frame }) => roomFor(frame))
    const memoryBytes = rooms[0]! + rooms[1]! - 1
    expect(rooms[2]!).toBeLessThan(rooms[1]! - 1)
    const pipeline: Pipeline = pipelineOf({ journal, chains }, { verifying, memoryBytes, signal: stop.signal, failed })
    for (const { frame, bytes } of frames)
      await pipeline.push({ source, slot: source.progress.take(frame.seq), frame, bytes })
    expect(begun).toEqual([bob.did])
    stop.abort()
    held.resolve()
    await pipeline.drained()
    journal.close()
    await running
    expect(begun).toEqual([bob.did])
    expect(failed).toEqual([])
    expect(await redis.get(`${STREAM}:cursor:relay`)).toBe('1')
    expect(await readChains(redis, [alice.did])).toEqual([undefined])
    expect(await redis.xLen(STREAM)).toBe(1)
  } finally {
    redis.destroy()
  }
})

test('V1 a frame that cannot be verified for a fault of ours ends the pipeline, and moves nothing', async ({
  redisUrl,
}) => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    const { signal } = new AbortController()
    const { journal, chains, source } = journalOf(redis, (findings) => pipeline.release(findings))
    const running = journal.run(AbortSignal.timeout(60_000))
    const verifying = { verify: () => Promise.reject(new Error('a fault of ours')) }
    const failed: string[] = []
    const pipeline: Pipeline = pipelineOf({ journal, chains }, { verifying, memoryBytes: 1e8, signal, failed })
    const { frame, bytes } = frameOf(1)
    await pipeline.push({ source, slot: source.progress.take(1), frame, bytes })
    await expect(pipeline.drained()).rejects.toThrow('a fault of ours')
    expect(failed).toEqual(['failed'])
    await expect(pipeline.push({ source, slot: source.progress.take(2), frame, bytes })).rejects.toThrow('of ours')
    journal.close()
    await running
    expect(await redis.get(`${STREAM}:cursor:relay`)).toBeNull()
  } finally {
    redis.destroy()
  }
})
