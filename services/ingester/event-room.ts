/**
 * What the events of a frame may come to, in characters of JSON, before anybody has looked into its blocks: the memory that is taken for them. Pure.
 *
 * A record has room in the frame once, and many ops may name it: 200 ops that name one of 10 kB are a frame of 45 kB, and 2 MB of records, which is as much as a commit may have
 * anyway (`records-too-large`). With empty byte strings that is 28 MB of JSON, 600 times the frame.
 */
import { COMMIT_LIMITS } from '@sluice/atproto/commit.ts'
import type { CommitFrame, SyncFrame } from '@sluice/atproto/frame.ts'

/** What a byte of a frame may become in an event at worst: an empty byte string is one byte there, and `{"$bytes":""},` in JSON. U+0001 is six. */
const TEXT_PER_BYTE = 14
/** What an event has beside its record, its path and its DID. */
const HEAD_CHARS = 400

/** At most what the events of a commit that is accepted may come to; 0 for what has none. */
export function roomFor(frame: CommitFrame | SyncFrame): number {
  if (frame.type !== 'commit') return 0
  const { ops, blocks, did } = frame
  // With more it is refused.
  if (ops.length > COMMIT_LIMITS.ops || blocks.length > COMMIT_LIMITS.blocksBytes) return 0
  const named = ops.flatMap(({ cid }) => cid ?? [])
  const again = named.length < 2 ? 0 : named.length - new Set(named).size
  const recordBytes = Math.min(COMMIT_LIMITS.blocksBytes, (again + 1) * blocks.length)
  const pathChars = ops.reduce((sum, { path }) => sum + path.length, 0)
  return TEXT_PER_BYTE * (recordBytes + pathChars) + ops.length * (HEAD_CHARS + did.length)
}
