/**
 * A repository export (`com.atproto.sync.getRepo`, a CAR) → verified records in key order.
 *
 * Nothing is yielded before everything is verified: every block's hash while it arrives, then the commit (version, DID,
 * signature by the given key), then the whole tree: canonical, in order, every node and every leaf present. A CAR that was
 * cut, even on a block boundary, is refused, and can therefore never look like deletions.
 *
 * Memory: the CAR's own size or the spool's budget, whichever is less, and 22 to 36 bytes a block (see `car-store.ts`); records are
 * decoded one by one. Many keys may lead to one block, so what the records come to is bounded as the CAR is, and by it.
 *
 * Measured (`export.bench.ts`; records a second from bytes to JSON text): 247,000, against 11,700 by `readCarWithRoot` +
 * `verifyRepo`. A process that reads 300 MB (900,000 records) peaks at 412 MiB, of which 80 are Node's own, and takes
 * 5.3 s; with 64 MB in memory and the rest in a file it peaks at 209 MiB and takes 10 s.
 */
import { setImmediate } from 'node:timers/promises'
import { isTid } from '@sluice/events/tid.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { CarStore, type StoreLimits } from './car-store.ts'
import { CAR_REFUSALS, refuseCar } from './car.ts'
import { CBOR_REFUSALS, type JsonObject } from './cbor.ts'
import { formatCid, formatCidAt, readCid, type Cid } from './cid.ts'
import { recordOf, type OpRefusal } from './commit-events.ts'
import { MST_REFUSALS } from './mst-node.ts'
import { TreeWalk } from './mst-walk.ts'
import { KEY_REFUSALS } from './signature.ts'
import { isSignedBy, parseSignedCommit, SIGNED_COMMIT_REFUSALS } from './signed-commit.ts'
import type { Spool } from './slabs.ts'
import { parsePath } from './syntax.ts'

/** Why an export is refused; fit for a metric label. */
export const EXPORT_REFUSALS = [
  'export-no-commit',
  'export-wrong-did',
  'export-bad-rev',
  'export-bad-signature',
  ...CAR_REFUSALS,
  ...CBOR_REFUSALS,
  ...SIGNED_COMMIT_REFUSALS,
  ...KEY_REFUSALS,
  ...MST_REFUSALS,
] as const
export type ExportRefusal = (typeof EXPORT_REFUSALS)[number]

/**
 * Blocks: an export of 307 MB had 1.2 million, 250 bytes each, so that many are the whole 2 GiB of such a repository. Their index takes 185 MB, and
 * doubles with the next block.
 */
export const EXPORT_LIMITS: StoreLimits = { bytes: 2 ** 31, blocks: 2 ** 23, blockBytes: 2_000_000 }

/** A record of an export: its value, or why it has none that can be carried. `bytes`: of its block, as far as that was looked at. */
export type ExportedRecord =
  | { path: string; collection: string; rkey: string; cid: string; record: JsonObject; bytes: number }
  | { path: string; cid: string; refused: OpRefusal; bytes: number }

/** A record that is there, of a collection that is not wanted: not decoded. */
export interface UnwantedRecord {
  path: string
  cid: string
  unwanted: true
}

/** Whether the records of a collection are to be read. */
type IsWanted = (collection: string) => boolean

/** Holds memory, and with a spool a file: dispose of it (`using`). */
export interface RepoExport extends Disposable {
  did: string
  rev: string
  /** CID of the signed commit, as text. */
  commit: string
  /** Root of the tree: what `prevData` of the next commit must be. */
  data: Cid
  recordCount: number
  /** In key order; may be iterated again. */
  records(): Generator<ExportedRecord>
  records(wanted: IsWanted): Generator<ExportedRecord | UnwantedRecord>
}

export interface ExpectedRepo {
  did: string
  /** The account's current signing key, a did:key. */
  signingKey: string
}

/** How long the walk of a large tree holds the thread at a time. */
const SLICE_MS = 20
const SLICE_KEYS = 2048

export interface ReadOptions {
  limits?: StoreLimits
  /** What exceeds its budget goes to a file. */
  spool?: Spool
  signal?: AbortSignal
}

/**
 * Reads a whole export, and verifies it.
 * @throws RefusedError<ExportRefusal> when it is not what it should be
 * @throws whatever `source` throws
 */
export async function readRepoExport(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  expected: ExpectedRepo,
  { limits = EXPORT_LIMITS, spool, signal }: ReadOptions = {},
): Promise<RepoExport> {
  const store = new CarStore(limits, spool)
  try {
    for await (const chunk of source) store.push(chunk)
    return await verifyExport(store, expected, signal)
  } catch (error) {
    store[Symbol.dispose]()
    throw error
  }
}

/**
 * Verifies the export that `store` holds, whose input has ended. The result disposes of the store.
 * @throws RefusedError<ExportRefusal>
 */
export async function verifyExport(store: CarStore, expected: ExpectedRepo, signal?: AbortSignal): Promise<RepoExport> {
  const root = store.end()
  const number = store.findCid(root)
  if (number === -1) throw refuse('export-no-commit', 'the root is not among the blocks')
  const commit = parseSignedCommit(store.block(number))
  if (commit.did !== expected.did)
    throw refuse('export-wrong-did', `${commit.did.slice(0, 100)} instead of ${expected.did}`)
  if (!isTid(commit.rev)) throw refuse('export-bad-rev', commit.rev.slice(0, 100))
  if (!isSignedBy(commit, expected.signingKey)) throw refuse('export-bad-signature', `not by ${expected.signingKey}`)
  const tree = store.findCid(commit.data)
  if (tree === -1) throw refuse('mst-incomplete', 'the root of the tree is not among the blocks')
  const recordCount = await countVerified(store, new TreeWalk(store, tree, { check: true }), signal)
  return {
    did: commit.did,
    rev: commit.rev,
    commit: formatCid(root),
    data: commit.data,
    recordCount,
    records: (wanted?: IsWanted) =>
      // Without a filter there are none that are unwanted.
      records(store, new TreeWalk(store, tree, { check: false }), wanted) as Generator<ExportedRecord>,
    [Symbol.dispose]: () => store[Symbol.dispose](),
  }
}

/**
 * What keys and records come to may be so many times the CAR that they came in, beyond so much that may always be. Without records that repeat they come to less than
 * the CAR; in a repository of nothing but one record of 300 bytes, under as many keys as you like, to four times as much. 300 keys of one record of 990 kB were
 * 297 MB of events, from a CAR of 1 MB.
 */
const UNFOLDED_PER_BYTE = 8
const UNFOLDED_FREE_BYTES = 32 * 1024 * 1024

/** Walks to the end, which verifies; gives the thread back every 20 ms, since a large repository has a million keys. */
async function countVerified(store: CarStore, walk: TreeWalk, signal: AbortSignal | undefined): Promise<number> {
  const bytes = Math.min(store.limits.bytes, UNFOLDED_FREE_BYTES + UNFOLDED_PER_BYTE * store.bytes)
  let count = 0
  let total = 0
  let sliceEnd = performance.now() + SLICE_MS
  while (walk.advance()) {
    total += walk.key.length + store.blockBytes(walk.leaf)
    if (total > bytes)
      throw refuseCar('car-too-large', `${store.bytes} bytes, whose keys and records come to more than ${bytes}`)
    if (++count % SLICE_KEYS === 0 && performance.now() > sliceEnd) {
      await setImmediate()
      signal?.throwIfAborted()
      sliceEnd = performance.now() + SLICE_MS
    }
  }
  return count
}

function* records(store: CarStore, walk: TreeWalk, wanted?: IsWanted): Generator<ExportedRecord | UnwantedRecord> {
  while (walk.advance()) {
    const path = walk.key
    const cid = formatCidAt(walk.valueBlock, walk.valueAt)
    const parts = parsePath(path)
    if (parts === undefined) {
      yield { path, cid, refused: 'op-bad-path', bytes: 0 }
      continue
    }
    if (wanted && !wanted(parts.collection)) {
      yield { path, cid, unwanted: true }
      continue
    }
    const block = store.block(walk.leaf)
    const value = recordIn(block, walk)
    if (typeof value === 'string') yield { path, cid, refused: value, bytes: block.length }
    else yield { path, collection: parts.collection, rkey: parts.rkey, cid, record: value, bytes: block.length }
  }
}

function recordIn(block: Buffer, walk: TreeWalk): JsonObject | OpRefusal {
  try {
    return recordOf(readCid(walk.valueBlock, walk.valueAt)!, block)
  } catch (error) {
    if (error instanceof RefusedError) return error.reason as OpRefusal
    throw error
  }
}

function refuse(reason: ExportRefusal, detail: string): RefusedError<ExportRefusal> {
  return new RefusedError(reason, detail)
}
