/**
 * Measures the way from frames to events, at each level of verification, next to the official libraries on the same
 * frames. `node commit.bench.ts`
 */
import { verifySignature as libraryVerifySignature } from '@atproto/crypto'
import { MemoryBlockstore, MST, readCarWithRoot, verifyProofs } from '@atproto/repo'
import { Frame } from '@atproto/xrpc-server'
import { readCar, type Car } from './car.ts'
import { decodeRecord } from './cbor.ts'
import { eventsOfCommit } from './commit-events.ts'
import type { ChainState } from './chain.ts'
import type { VerifyLevel } from './commit.ts'
import { decodeFrame, type CommitFrame } from './frame.ts'
import { PartialTree } from './mst.ts'
import { LIBRARIES } from './signature-checker.ts'
import { verifySignature } from './signature.ts'
import { parseSignedCommit, type SignedCommit } from './signed-commit.ts'
import { measure, table, type Measure } from './testing/measure.ts'
import { verifyByNode } from './testing/verify-by-node.ts'
import { verifyCommit } from './testing/verify.ts'
import { populatedRepo, traffic } from './testing/world.ts'

interface Sample {
  bytes: Buffer
  frame: CommitFrame
  state: ChainState
  key: string
}

const now = new Date().toISOString()
const wanted = (): boolean => true

function samplesOf(seed: string): Sample[] {
  const repo = populatedRepo(seed, 2_000)
  let state: ChainState = { rev: repo.rev, data: repo.data }
  return traffic(repo, seed, 100).map(({ bytes }) => {
    const frame = decodeFrame(bytes) as CommitFrame
    const sample = { bytes, frame, state, key: repo.key.did }
    state = { rev: frame.rev, data: parseSignedCommit(readCar(frame.blocks).blocks.get(frame.commit)!).data }
    return sample
  })
}

function mean(numbers: number[]): number {
  return Math.round(numbers.reduce((a, b) => a + b) / numbers.length)
}

function toEvents({ bytes, state, key }: Sample, level: VerifyLevel): number {
  const frame = decodeFrame(bytes) as CommitFrame
  const verdict = verifyCommit(frame, state, key, { level, nowMs: Date.now() })
  if (verdict.kind !== 'apply' || (level !== 'off' && verdict.proof !== 'complete'))
    throw new Error(JSON.stringify(verdict))
  return eventsOfCommit(frame, verdict.blocks, { wanted, now }).events.length
}

async function officialEvents({ bytes, frame, key }: Sample): Promise<number> {
  const { body } = Frame.fromBytes(bytes) as unknown as {
    body: { repo: string; blocks: Uint8Array; ops: { path: string; cid: never }[] }
  }
  const claims = body.ops.map(({ path, cid }) => ({ collection: path.split('/')[0]!, rkey: path.split('/')[1]!, cid }))
  const { verified } = await verifyProofs(body.blocks, claims, body.repo, key)
  await officialInversion(body.blocks, frame)
  return verified.length
}

async function officialInversion(carBytes: Uint8Array, frame: CommitFrame): Promise<string> {
  const car = await readCarWithRoot(carBytes)
  const storage = new MemoryBlockstore(car.blocks)
  const commit = (await storage.readRecord(car.root)) as { data: never }
  let tree = MST.load(storage, commit.data)
  for (const op of frame.ops) {
    if (op.action === 'create') tree = await tree.delete(op.path)
    else if (op.action === 'update') tree = await tree.update(op.path, commit.data)
    else tree = await tree.add(op.path, commit.data)
  }
  return String(await tree.getPointer())
}

interface Bare {
  commit: SignedCommit
  key: string
}

/**
 * From frame to events at each level, the bare signature check, and the same work by the official libraries. Factors
 * are relative to the first row.
 */
export async function benchVerification(): Promise<Measure[]> {
  const samples = allSamples()
  return [
    await measure('bare signature check by node:crypto', bareOf(samples), ({ commit, key }: Bare) =>
      verifyByNode(key, commit.unsigned, commit.signature),
    ),
    await measure('full', samples, (sample) => toEvents(sample, 'full')),
    await measure('proof', samples, (sample) => toEvents(sample, 'proof')),
    await measure('off', samples, (sample) => toEvents(sample, 'off')),
    await measure('official: verifyProofs + inversion by MST', samples, officialEvents, { ms: 4_000 }),
  ]
}

/** The single steps of verification. */
export async function benchVerificationParts(): Promise<Measure[]> {
  const samples = allSamples()
  const bare = bareOf(samples)
  const opened = samples.map(({ frame }) => ({ frame, car: readCar(frame.blocks), carBytes: frame.blocks }))
  const records = opened.flatMap(({ frame, car }) =>
    frame.ops.flatMap((op) => (op.cid ? [car.blocks.get(op.cid)!] : [])),
  )
  return [
    await measure('signature', bare, ({ commit, key }) => verifySignature(key, commit.unsigned, commit.signature)),
    await measure('decodeFrame', samples, ({ bytes }) => decodeFrame(bytes)),
    await measure('readCar', opened, ({ carBytes }) => readCar(carBytes)),
    await measure('parseSignedCommit', opened, ({ car }) => parseSignedCommit(car.blocks.get(car.root)!)),
    await measure('tree: load', opened, ({ car }) => treeOf(car)),
    await measure('tree: load, undo, root', opened, ({ frame, car }) => {
      const tree = treeOf(car)
      for (const op of frame.ops) tree.undo(op)
      return tree.root()
    }),
    await measure('decodeRecord (one)', records, decodeRecord),
    await measure('official: Frame.fromBytes', samples, ({ bytes }) => Frame.fromBytes(bytes)),
    await measure('official: readCarWithRoot', opened, ({ carBytes }) => readCarWithRoot(carBytes)),
    await measure('official: inversion', opened, ({ frame, carBytes }) => officialInversion(carBytes, frame)),
    await measure('official: verifySignature', bare, ({ commit, key }) =>
      libraryVerifySignature(key, commit.unsigned, commit.signature),
    ),
  ]
}

function treeOf(car: Car): PartialTree {
  return new PartialTree(car.blocks, parseSignedCommit(car.blocks.get(car.root)!).data)
}

function bareOf(samples: readonly Sample[]): Bare[] {
  return samples.map(({ frame, key }) => ({
    commit: parseSignedCommit(readCar(frame.blocks).blocks.get(frame.commit)!),
    key,
  }))
}

function allSamples(): Sample[] {
  return [0, 1, 2].flatMap((n) => samplesOf(`bench ${n}`))
}

if (import.meta.main) {
  const samples = allSamples()
  const blocks = mean(samples.map(({ frame }) => readCar(frame.blocks).blocks.size))
  console.log(
    `${samples.length} frames, ${blocks} blocks and ${mean(samples.map((s) => s.bytes.length))} bytes each; k256 by ${LIBRARIES.k256}`,
  )
  console.log(table('Frame → events', await benchVerification()))
  console.log(table('Parts', await benchVerificationParts()))
}
