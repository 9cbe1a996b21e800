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

/** @param frameBytes the whole frame */
export function roomFor(frame: CommitFrame | SyncFrame, frameBytes: number): number {
  // With more ops it is refused.
  if (frame.type !== 'commit' || frame.ops.length > COMMIT_LIMITS.ops) return 0
  const { ops, blocks, did } = frame
  const named = ops.flatMap(({ cid }) => cid ?? [])
  const again = named.length < 2 ? 0 : named.length - new Set(named).size
  const repeatedBytes = Math.min(COMMIT_LIMITS.blocksBytes, again * blocks.length)
  return TEXT_PER_BYTE * (frameBytes + repeatedBytes) + ops.length * (HEAD_CHARS + did.length)
}
