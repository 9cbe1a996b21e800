/**
 * Frames, exports and entries made wrong from real ones, given to whoever must read them. Each is refused by a named
 * reason, or taken; what is taken in spite of a signature to the contrary, and what throws anything else, is a finding.
 */
import { decodeFrame } from '@sluice/atproto/frame.ts'
import { eventsOfCommit } from '@sluice/atproto/commit-events.ts'
import { formatCid } from '@sluice/atproto/cid.ts'
import { readRepoExport } from '@sluice/atproto/repo-export.ts'
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import type { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { verifyCommit, verifySync } from '@sluice/atproto/testing/verify.ts'
import { populatedRepo, traffic } from '@sluice/atproto/testing/world.ts'
import {
  backfillEventCodec,
  InvalidEntryError,
  labelEventCodec,
  streamEventCodec,
  type EntryFields,
} from '@sluice/events/codec.ts'
import { history } from '@sluice/indexing/testing/history.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { mutate, mutateJson } from './mutate.ts'

export interface FuzzReport {
  /** What was made of them, `frame refused: <reason>` and the like, and how often. */
  outcomes: Map<string, number>
  /** What must not be; the first of each kind, with the number that repeats it. */
  findings: string[]
}

const FULL = { level: 'full', nowMs: Date.UTC(2027, 0, 1) } as const
const LIMITS = { bytes: 10_000_000, blocks: 100_000, blockBytes: 2_000_000 }

/** `count` of them: three in five frames, the others exports and entries. */
export async function fuzz(seed: number, count: number): Promise<FuzzReport> {
  const random = new Random(seed)
  const report: FuzzReport = { outcomes: new Map(), findings: [] }
  const frames = frameSamples(seed)
  const repos = Array.from({ length: 6 }, (_, i) => populatedRepo(`fuzz ${seed} ${i}`, 10 + i * 12))
  const exports = repos.map((repo) => repo.export())
  const entries = entrySamples(seed)
  for (let i = 0; i < count; i++) {
    try {
      const kind = i % 5
      const outcome =
        kind < 3
          ? fuzzFrame(frames, random)
          : kind === 3
            ? await fuzzExport(repos, exports, random)
            : fuzzEntry(entries, random)
      report.outcomes.set(outcome, (report.outcomes.get(outcome) ?? 0) + 1)
    } catch (error) {
      if (report.findings.length < 20)
        report.findings.push(`number ${i} of seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }
  return report
}

interface FrameSample {
  bytes: Buffer
  t: string
  body: object
  repo: TestRepo
  state: { rev: string; data: TestRepo['data'] } | null
  /** `path cid` of what its ops write. */
  ops: string[]
}

function frameSamples(seed: number): FrameSample[] {
  return Array.from({ length: 8 }, (_, i) => {
    const repo = populatedRepo(`fuzz frames ${seed} ${i}`, 5 + i * 10)
    const samples: FrameSample[] = []
    for (let n = 0; n < 5; n++) {
      const state = { rev: repo.rev, data: repo.data }
      const [made] = traffic(repo, `fuzz ${seed} ${i} ${n}`, 1)
      const ops = made!.body.ops.map(({ path, cid }) => `${path} ${cid?.$link ?? 'deleted'}`)
      samples.push({ bytes: made!.bytes, t: '#commit', body: made!.body, repo, state, ops })
    }
    const { did } = repo
    const rest: [string, object][] = [
      ['#sync', repo.sync().body],
      ['#identity', { seq: 9, did, time: '2026-01-01T00:00:00.000Z', handle: 'a.test' }],
      ['#account', { seq: 9, did, time: '2026-01-01T00:00:00.000Z', active: false, status: 'takendown' }],
      ['#labels', { seq: 9, labels: [{ src: did, uri: did, val: 'x', cts: '2026-01-01T00:00:00.000Z' }] }],
    ]
    return [
      ...samples,
      ...rest.map(([t, body]): FrameSample => ({ bytes: encodeFrame(t, body), t, body, repo, state: null, ops: [] })),
    ]
  }).flat()
}

function fuzzFrame(samples: readonly FrameSample[], random: Random): string {
  const sample = random.pick(samples)
  const bytes = random.chance(0.3)
    ? encodedOr(sample, mutateJson(sample.body, random))
    : mutate(sample.bytes, [random.pick(samples).bytes], random)
  if (bytes === undefined) return 'frame that no encoder writes'
  const frame = refusable('frame', () => decodeFrame(bytes))
  if (typeof frame === 'string') return frame
  if (frame.type === 'sync') return `frame sync ${verifySync(frame, null, sample.repo.key.did, FULL).kind}`
  if (frame.type !== 'commit') return `frame read: ${frame.type}`
  const verdict = verifyCommit(frame, sample.state, sample.repo.key.did, FULL)
  if (verdict.kind === 'refused') return `frame refused: ${verdict.reason}`
  if (verdict.kind === 'duplicate') return 'frame is a duplicate'
  const { events } = eventsOfCommit(frame, verdict.blocks, { wanted: () => true, now: '2026-01-01T00:00:00.000Z' })
  const found = events.map((event) => `${event.collection}/${event.rkey} ${'cid' in event ? event.cid : 'deleted'}`)
  // The signature covers the tree, and the tree says what the ops were.
  if (verdict.kind === 'apply' && sample.state && found.some((op) => !samples.some(({ ops }) => ops.includes(op))))
    throw new Error(`a commit was applied with ops that nobody signed: ${found.join(', ')}`)
  return `frame commit ${verdict.kind}`
}

/** A body that cannot be encoded (a float, a lone surrogate) is nobody's frame. */
function encodedOr({ t }: FrameSample, body: unknown): Buffer | undefined {
  try {
    return encodeFrame(t, body as object)
  } catch {
    return undefined
  }
}

async function fuzzExport(repos: readonly TestRepo[], exports: readonly Buffer[], random: Random): Promise<string> {
  const i = random.below(repos.length)
  const repo = repos[i]!
  const car = mutate(exports[i]!, exports, random)
  const step = 1 + random.below(20_000)
  const source = Array.from({ length: Math.ceil(car.length / step) }, (_, n) => car.subarray(n * step, (n + 1) * step))
  try {
    using found = await readRepoExport(source, { did: repo.did, signingKey: repo.key.did }, { limits: LIMITS })
    const records = [...found.records()].map(({ path, cid }) => `${path} ${cid}`)
    const expected = [...repo.records].map(([path, { cid }]) => `${path} ${formatCid(cid)}`).sort()
    if (JSON.stringify(records.toSorted()) !== JSON.stringify(expected))
      throw new Error('an export was read as something else than what was signed')
    return 'export read'
  } catch (error) {
    return reasonOf('export', error)
  }
}

interface EntrySample {
  codec: { decode: (fields: EntryFields) => unknown }
  field: string
  value: object
}

function entrySamples(seed: number): EntrySample[] {
  const events = history({ seed, events: 200 }).map((value) => ({ codec: streamEventCodec, field: 'event', value }))
  const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  const label = {
    type: 'label',
    label: { src: did, uri: did, val: 'spam', cts: '2026-01-01T00:00:00.000Z', neg: true },
  }
  const repo = { did, host: 'pds.test', rev: '3kaaaaaaaaaa2', reason: 'gap' }
  const range = {
    type: 'repo',
    did,
    rev: '3kaaaaaaaaaa2',
    time: '2026-01-01T00:00:00.000Z',
    commit: 'x',
    range: ['', ''],
    keys: ['a/b'],
  }
  return [
    ...events,
    ...Array.from({ length: 40 }, () => [
      { codec: labelEventCodec, field: 'event', value: label },
      { codec: backfillEventCodec, field: 'repo', value: repo },
      { codec: streamEventCodec, field: 'event', value: range },
    ]).flat(),
  ]
}

/** The fields of a mutated entry; also for whoever gives them to a real indexer. */
export function mutatedEntry(samples: readonly object[], random: Random): EntryFields {
  const text = JSON.stringify(random.pick(samples))
  if (random.chance(0.5)) return { event: JSON.stringify(mutateJson(JSON.parse(text), random)) }
  return { event: mutate(Buffer.from(text), [Buffer.from(JSON.stringify(random.pick(samples)))], random).toString() }
}

function fuzzEntry(samples: readonly EntrySample[], random: Random): string {
  const { codec, field, value } = random.pick(samples)
  const { event } = mutatedEntry([value], random)
  try {
    codec.decode({ [field]: event! })
    return 'entry read'
  } catch (error) {
    if (error instanceof InvalidEntryError) return `entry refused: ${error.reason}`
    throw error
  }
}

function refusable<T>(what: string, read: () => T): T | string {
  try {
    return read()
  } catch (error) {
    return reasonOf(what, error)
  }
}

/** @throws the error, when it is no refusal */
function reasonOf(what: string, error: unknown): string {
  if (error instanceof RefusedError) return `${what} refused: ${(error as RefusedError).reason}`
  throw error
}
