/**
 * How much JSON the events of a frame may become at most, in characters. Told before anybody has looked into its
 * blocks, so that the memory for it can be set aside. Pure.
 *
 * A frame holds a record once, and many of its ops may name it. 200 ops that name a record of 10 kB are a frame of 45
 * kB with 2 MB of records, which is as much as a commit may have (`records-too-large`). If those bytes are empty byte
 * strings, they become 28 MB of JSON, 600 times the frame.
 */
import { COMMIT_LIMITS } from '@sluice/atproto/commit.ts'
import type { CommitFrame, SyncFrame } from '@sluice/atproto/frame.ts'

/**
 * How many characters a byte of a frame may become at worst: an empty byte string is one byte in the frame, and
 * `{"$bytes":""},` in JSON. U+0001 becomes six.
 */
const TEXT_PER_BYTE = 14
/** The characters of an event beside its record, its path and its DID. */
const HEAD_CHARS = 400

/** The room for the events of a commit; 0 for frames without such events. */
export function roomFor(frame: CommitFrame | SyncFrame): number {
  if (frame.type !== 'commit') return 0
  const { ops, blocks, did } = frame
  // Such a commit is refused.
  if (ops.length > COMMIT_LIMITS.ops || blocks.length > COMMIT_LIMITS.blocksBytes) return 0
  const named = ops.flatMap(({ cid }) => cid ?? [])
  const again = named.length < 2 ? 0 : named.length - new Set(named).size
  const recordBytes = Math.min(COMMIT_LIMITS.blocksBytes, (again + 1) * blocks.length)
  const pathChars = ops.reduce((sum, { path }) => sum + path.length, 0)
  return TEXT_PER_BYTE * (recordBytes + pathChars) + ops.length * (HEAD_CHARS + did.length)
}
