/**
 * Decodes one websocket frame to a typed value: frames of `com.atproto.sync.subscribeRepos` and
 * `com.atproto.label.subscribeLabels`.
 *
 * A frame is two DAG-CBOR items, a header `{op, t}` and a body. https://atproto.com/specs/event-stream. Checks the
 * framing, and the presence and type of each field that later code reads. Unknown fields are ignored. A frame with an
 * unknown `t` or `op` gives a value of kind `unknown` and no error: it must be counted, and must not end the
 * connection.
 */
import type { Label } from '@sluice/events/label-event.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { accountStatus } from './account-status.ts'
import { asBuffer } from './bytes.ts'
import { CBOR_REFUSALS } from './cbor-refusals.ts'
import { decodeItem, decodeJsonItem, Link, type Item, type ItemMap } from './cbor.ts'
import type { Cid } from './cid.ts'
import { isLabel } from './label.ts'
import { isHandle } from './syntax.ts'

/** Why a frame is refused. Used as a metric label. */
export const FRAME_REFUSALS = ['frame-bad-header', 'frame-bad-body', 'frame-trailing-bytes', ...CBOR_REFUSALS] as const
export type FrameRefusal = (typeof FRAME_REFUSALS)[number]

export type Frame =
  CommitFrame | SyncFrame | IdentityFrame | AccountFrame | LabelsFrame | InfoFrame | ErrorFrame | UnknownFrame
/** The frames with a sequence number. Each belongs to one account. */
export type RepoFrame = CommitFrame | SyncFrame | IdentityFrame | AccountFrame

export interface CommitFrame {
  type: 'commit'
  seq: number
  time: string
  did: string
  rev: string
  since: string | null
  commit: Cid
  /** The root of the tree before this commit; null in a first commit, and in those of a host from before Sync 1.1. */
  prevData: Cid | null
  ops: RepoOp[]
  /** A CAR, as a view of the frame's bytes. */
  blocks: Buffer
  /** Deprecated. True: the host left the ops out. */
  tooBig: boolean
  /** The size of the whole frame. */
  frameBytes: number
}

export interface RepoOp {
  /** `create`, `update` or `delete`. The protocol may add others. */
  action: string
  path: string
  cid: Cid | null
  /** The CID of the record before this op. Null for a create, and from hosts from before Sync 1.1. */
  prev: Cid | null
}

export interface SyncFrame {
  type: 'sync'
  seq: number
  time: string
  did: string
  rev: string
  blocks: Buffer
  frameBytes: number
}

export interface IdentityFrame {
  type: 'identity'
  seq: number
  time: string
  did: string
  /**
   * Absent also when the frame's value is no valid handle. It may be a text of megabytes, which must not get into an
   * event.
   */
  handle?: string
}

export interface AccountFrame {
  type: 'account'
  seq: number
  time: string
  did: string
  active: boolean
  status?: string
}

export interface LabelsFrame {
  type: 'labels'
  seq: number
  labels: Label[]
  /** How many items of the frame were left out, because they are no labels or labels that cannot be stored. */
  refused: number
}

/**
 * An `#info` frame. `OutdatedCursor` means: events between our cursor and the oldest event that the host still has are
 * lost. Its texts are shortened, since they are logged.
 */
export interface InfoFrame {
  type: 'info'
  name: string
  text?: string
}

/**
 * An error frame (`FutureCursor`, `ConsumerTooSlow`, …), the last frame of a connection. Its texts are shortened too.
 */
export interface ErrorFrame {
  type: 'error'
  error: string
  text?: string
}

export interface UnknownFrame {
  type: 'unknown'
  /** The frame's unknown `t`, or its unknown `op`. */
  t: string
}

const BRIEF_CHARS = 200

/**
 * The results of `decodeHeader` for the kinds of frames that we read. The body of any other frame is not decoded: it
 * may contain anything.
 */
const KNOWN: ReadonlySet<string> = new Set(['#commit', '#sync', '#identity', '#account', '#labels', '#info', 'error'])

/**
 * Decodes the frame in `input`. Byte strings of the result are views of `input`.
 * @throws RefusedError<FrameRefusal>
 */
export function decodeFrame(input: Uint8Array): Frame {
  const bytes = asBuffer(input)
  const { t, end } = decodeHeader(bytes)
  if (!KNOWN.has(t)) return { type: 'unknown', t }
  if (t === '#labels') return decodeLabels(bytes, end)
  const body = decodeItem(bytes, end)
  if (body.end !== bytes.length) throw refuse('frame-trailing-bytes', `${bytes.length - body.end} bytes`)
  const map = mapOf(body.value)
  switch (t) {
    case '#commit':
      return commitFrame(map, bytes.length)
    case '#sync':
      return {
        type: 'sync',
        ...position(map),
        ...revOf(map),
        did: text(map, 'did'),
        blocks: view(map),
        frameBytes: bytes.length,
      }
    case '#identity':
      return identityFrame(map)
    case '#account':
      return accountFrame(map)
    case '#info':
      return { type: 'info', name: brief(text(map, 'name')), ...briefly(map.message) }
    default:
      return { type: 'error', error: brief(text(map, 'error')), ...briefly(map.message) }
  }
}

/**
 * The type of a frame (`#commit`, …, or `error`). Does not decode the body.
 * @throws RefusedError<FrameRefusal>
 */
export function frameTypeOf(input: Uint8Array): string {
  return decodeHeader(asBuffer(input)).t
}

function decodeHeader(bytes: Buffer): { t: string; end: number } {
  const { value, end } = decodeItem(bytes, 0)
  const header = isMap(value) ? value : undefined
  if (header?.op === -1) return { t: 'error', end }
  if (typeof header?.op !== 'number') throw refuse('frame-bad-header', 'not a map with a number `op`')
  if (header.op !== 1) return { t: `op ${header.op}`, end }
  if (typeof header.t !== 'string') throw refuse('frame-bad-header', 'no `t`')
  return { t: header.t, end }
}

function commitFrame(map: ItemMap, frameBytes: number): CommitFrame {
  if (!Array.isArray(map.ops)) throw missing('ops')
  const { commit } = map
  if (!(commit instanceof Link)) throw missing('commit')
  return {
    type: 'commit',
    seq: integer(map, 'seq'),
    time: text(map, 'time'),
    did: text(map, 'repo'),
    rev: text(map, 'rev'),
    since: map.since === undefined || map.since === null ? null : text(map, 'since'),
    commit: commit.cid,
    prevData: linkOrNull(map.prevData, 'prevData'),
    ops: map.ops.map(repoOp),
    blocks: view(map),
    tooBig: map.tooBig === true,
    frameBytes,
  }
}

function repoOp(item: Item): RepoOp {
  const op = mapOf(item)
  return {
    action: text(op, 'action'),
    path: text(op, 'path'),
    cid: linkOrNull(op.cid, 'cid'),
    prev: linkOrNull(op.prev, 'prev'),
  }
}

function identityFrame(map: ItemMap): IdentityFrame {
  const { handle } = map
  const known = typeof handle === 'string' && isHandle(handle) ? { handle } : {}
  return { type: 'identity', ...position(map), did: text(map, 'did'), ...known }
}

function accountFrame(map: ItemMap): AccountFrame {
  if (typeof map.active !== 'boolean') throw missing('active')
  return {
    type: 'account',
    ...position(map),
    did: text(map, 'did'),
    active: map.active,
    ...accountStatus(map.status),
  }
}

function decodeLabels(bytes: Buffer, at: number): LabelsFrame {
  const { value, end } = decodeJsonItem(bytes, at)
  if (end !== bytes.length) throw refuse('frame-trailing-bytes', `${bytes.length - end} bytes`)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refuse('frame-bad-body', 'not a map')
  const { seq, labels } = value
  if (typeof seq !== 'number') throw missing('seq')
  if (!Array.isArray(labels)) throw missing('labels')
  const good = labels.filter(isLabel)
  return { type: 'labels', seq, labels: good, refused: labels.length - good.length }
}

function position(map: ItemMap): { seq: number; time: string } {
  return { seq: integer(map, 'seq'), time: text(map, 'time') }
}

function revOf(map: ItemMap): { rev: string } {
  return { rev: text(map, 'rev') }
}

function text(map: ItemMap, key: string): string {
  const value = map[key]
  if (typeof value !== 'string') throw missing(key)
  return value
}

function integer(map: ItemMap, key: string): number {
  const value = map[key]
  if (typeof value !== 'number') throw missing(key)
  return value
}

function view(map: ItemMap): Buffer {
  const { blocks } = map
  if (!Buffer.isBuffer(blocks)) throw missing('blocks')
  return blocks
}

function linkOrNull(item: Item | undefined, key: string): Cid | null {
  if (item === undefined || item === null) return null
  if (item instanceof Link) return item.cid
  throw missing(key)
}

/** `{text}` when the value is text, otherwise `{}`: an optional field of another type is treated as absent. */
function briefly(value: Item | undefined): { text?: string } {
  return typeof value === 'string' ? { text: brief(value) } : {}
}

function brief(value: string): string {
  return value.slice(0, BRIEF_CHARS)
}

function mapOf(item: Item): ItemMap {
  if (isMap(item)) return item
  throw refuse('frame-bad-body', 'not a map')
}

function isMap(item: Item): item is ItemMap {
  return (
    typeof item === 'object' &&
    item !== null &&
    !Array.isArray(item) &&
    !(item instanceof Link) &&
    !Buffer.isBuffer(item)
  )
}

function missing(key: string): RefusedError<FrameRefusal> {
  return refuse('frame-bad-body', `${key} is missing or of the wrong type`)
}

function refuse(reason: FrameRefusal, detail: string): RefusedError<FrameRefusal> {
  return new RefusedError(reason, detail)
}
