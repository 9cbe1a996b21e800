/**
 * Verifies a repository export (`com.atproto.sync.getRepo`, a CAR) and yields its records in key order.
 *
 * No record is yielded before everything is verified: every block's hash while it arrives, then the commit (version,
 * DID, signature by the given key), then the whole tree (canonical, in order, every node and every leaf present). A CAR
 * that was cut off, even between two blocks, is refused. So a truncated export can never look as if records had been
 * deleted.
 *
 * Memory: the size of the CAR or the spool's budget, whichever is less, and 22 to 36 bytes a block (see
 * `car-store.ts`). Records are decoded one by one. Many keys may lead to one block, so the total size of the records is
 * bounded too, in proportion to the CAR.
 *
 * Measured (`export.bench.ts`; records a second from bytes to JSON text): 247,000, against 11,700 by `readCarWithRoot`
 * + `verifyRepo`. A process that reads 300 MB (900,000 records) peaks at 412 MiB, of which 80 are Node's own, and takes
 * 5.3 s; with 64 MB in memory and the rest in a file it peaks at 209 MiB and takes 10 s.
 */
import { setImmediate } from 'node:timers/promises'
import { isTid } from '@sluice/events/tid.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { CarStore, type StoreLimits } from './car-store.ts'
import { CAR_REFUSALS, refuseCar } from './car.ts'
import { CBOR_REFUSALS } from './cbor-refusals.ts'
import type { JsonObject } from './cbor.ts'
import { formatCid, formatCidAt, readCid, type Cid } from './cid.ts'
import { recordOf, type OpRefusal } from './commit-events.ts'
import { KEY_REFUSALS } from './did-key.ts'
import { MST_REFUSALS } from './mst-node.ts'
import { TreeWalk } from './mst-walk.ts'
import { isSignedBy, parseSignedCommit, SIGNED_COMMIT_REFUSALS } from './signed-commit.ts'
import type { Spool } from './slabs.ts'
import { parsePath } from './syntax.ts'

/** Why an export is refused. Used as a metric label. */
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
 * An export of 307 MB had 1.2 million blocks of 250 bytes. So 2^23 blocks are the whole 2 GiB of such a repository.
 * Their index takes 185 MB, and would double with the next block.
 */
export const EXPORT_LIMITS: StoreLimits = { bytes: 2 ** 31, blocks: 2 ** 23, blockBytes: 2_000_000 }

/**
 * A record of an export: its value, or why its value cannot be carried. `bytes`: the size of its block, if the block
 * was read.
 */
export type ExportedRecord =
  | { path: string; collection: string; rkey: string; cid: string; record: JsonObject; bytes: number }
  | { path: string; cid: string; refused: OpRefusal; bytes: number }

/** A record of a collection that is not wanted. It exists, and is not decoded. */
export interface UnwantedRecord {
  path: string
  cid: string
  unwanted: true
}

/** Whether the records of a collection are to be read. */
type IsWanted = (collection: string) => boolean

/** Holds memory, and with a spool a file. The caller must dispose of it (`using`). */
export interface RepoExport extends Disposable {
  did: string
  rev: string
  /** CID of the signed commit, as text. */
  commit: string
  /** Root of the tree: what `prevData` of the next commit must be. */
  data: Cid
  recordCount: number
  /** The records in key order. May be called again. */
  records(): Generator<ExportedRecord>
  records(wanted: IsWanted): Generator<ExportedRecord | UnwantedRecord>
}

export interface ExpectedRepo {
  did: string
  /** The account's current signing key, a did:key. */
  signingKey: string
}

/** How long the walk of a large tree may run before it yields the thread. */
const SLICE_MS = 20
const SLICE_KEYS = 2048

export interface ReadOptions {
  limits?: StoreLimits
  /** Blocks beyond its memory budget go to a file. */
  spool?: Spool
  signal?: AbortSignal
}

/**
 * Reads a whole export, and verifies it.
 * @throws RefusedError<ExportRefusal> when the export is invalid
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
 * Verifies the export in `store`, whose input must have ended. The result owns the store, and disposes of it.
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
      // Without a filter no record is unwanted.
      records(store, new TreeWalk(store, tree, { check: false }), wanted) as Generator<ExportedRecord>,
    [Symbol.dispose]: () => store[Symbol.dispose](),
  }
}

/**
 * The total size of keys and records may be UNFOLDED_FREE_BYTES plus so many times the size of the CAR. Without
 * repeated records the total is less than the CAR. In a repository that has one record of 300 bytes under any number of
 * keys, it is four times as much. The limit is for cases like this: 300 keys of one record of 990 kB gave 297 MB of
 * events, from a CAR of 1 MB.
 */
const UNFOLDED_PER_BYTE = 8
const UNFOLDED_FREE_BYTES = 32 * 1024 * 1024

/**
 * Walks the whole tree, which verifies it, and counts its keys. Yields the thread every 20 ms, since a large repository
 * has a million keys.
 */
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
