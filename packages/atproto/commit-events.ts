/**
 * Makes `StreamEvent`s of a commit's ops, in the order of the ops. A bad op is refused alone; the other ops still
 * become events.
 *
 * `checkCommit` verifies the ops. Here each record is checked: it is the block that the op's CID names, and it can be
 * carried (path, presence, size, data model).
 */
import type { RecordEvent } from '@sluice/events/stream-event.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { CBOR_REFUSALS } from './cbor-refusals.ts'
import { decodeRecord } from './cbor.ts'
import { formatCid, isDagCbor, type Cid } from './cid.ts'
import type { CommitFrame, RepoOp } from './frame.ts'
import { normalizeTime, parsePath, type RecordPath } from './syntax.ts'

/** Why one op is refused. Used as a metric label. */
export const OP_REFUSALS = [
  'op-bad-path',
  'op-unknown-action',
  'op-missing-block',
  'op-record-too-large',
  'op-bad-link',
  ...CBOR_REFUSALS,
] as const
export type OpRefusal = (typeof OP_REFUSALS)[number]

/** https://atproto.com/specs/sync: a record of more bytes may be refused. */
const RECORD_BYTES = 1_000_000

export interface CommitEvents {
  events: RecordEvent[]
  refused: { path: string; reason: OpRefusal }[]
  /** How many ops the filter left out. */
  filtered: number
}

/**
 * The events of a commit whose blocks are `blocks`.
 *
 * `now` (ISO 8601) replaces the frame's time when that is no valid time. The time is not signed, so a wrong one must
 * not lose a record.
 */
export function eventsOfCommit(
  frame: CommitFrame,
  blocks: ReadonlyMap<Cid, Buffer>,
  { wanted, now }: { wanted: (collection: string) => boolean; now: string },
): CommitEvents {
  const { seq, did, rev } = frame
  const time = normalizeTime(frame.time) ?? now
  const commit = formatCid(frame.commit)
  const result: CommitEvents = { events: [], refused: [], filtered: 0 }
  for (const op of frame.ops) {
    const path = parsePath(op.path)
    if (path === undefined) {
      result.refused.push({ path: op.path, reason: 'op-bad-path' })
    } else if (!wanted(path.collection)) {
      result.filtered++
    } else {
      try {
        result.events.push(eventOf(op, path, { seq, time, did, commit, rev }, blocks))
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error
        result.refused.push({ path: op.path, reason: error.reason as OpRefusal })
      }
    }
  }
  return result
}

type Head = Pick<RecordEvent, 'seq' | 'time' | 'did' | 'commit' | 'rev'>

function eventOf(
  op: RepoOp,
  { collection, rkey }: RecordPath,
  head: Head,
  blocks: ReadonlyMap<Cid, Buffer>,
): RecordEvent {
  const { seq, time, did, commit, rev } = head
  switch (op.action) {
    case 'create':
    case 'update': {
      if (op.cid === null) throw new RefusedError<OpRefusal>('op-bad-link', 'no cid')
      const record = recordOf(op.cid, blocks.get(op.cid))
      return { type: op.action, seq, time, did, commit, rev, collection, rkey, cid: formatCid(op.cid), record }
    }
    case 'delete':
      return { type: 'delete', seq, time, did, commit, rev, collection, rkey }
    default:
      throw new RefusedError<OpRefusal>('op-unknown-action', op.action)
  }
}

/**
 * Decodes the record in a block to lexicon JSON.
 * @throws RefusedError<OpRefusal>
 */
export function recordOf(cid: Cid, block: Buffer | undefined) {
  if (!isDagCbor(cid)) throw new RefusedError<OpRefusal>('op-bad-link', 'a record is dag-cbor')
  if (block === undefined) throw new RefusedError<OpRefusal>('op-missing-block', 'its block is not there')
  if (block.length > RECORD_BYTES) throw new RefusedError<OpRefusal>('op-record-too-large', `${block.length} bytes`)
  return decodeRecord(block)
}
