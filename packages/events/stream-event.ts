/**
 * The events of `firehose_live` and `firehose_backfill`; each tells the indexer one fact.
 *
 * These types are the wire contract. Other tools read and write these streams, so a field is never renamed or removed,
 * and a new field is optional. `record` is lexicon JSON (`{"$link": …}`, `{"$bytes": …}`), so that a person can read
 * what `redis-cli` shows.
 */

/** The `seq` of an event that came from a repository export, not from a firehose. */
export const SEQ_BACKFILL = -1

interface CommitFields {
  /** The upstream's sequence number, or `SEQ_BACKFILL`. */
  seq: number
  /** When the PDS made the commit (ISO 8601, milliseconds, Z); for an export, when it was read. */
  time: string
  did: string
  /** CID of the signed commit. */
  commit: string
  /** Revision of the commit (a TID). For an export: the revision of its head, for every record in it. */
  rev: string
  collection: string
  rkey: string
}

export interface CreateEvent extends CommitFields {
  type: 'create'
  cid: string
  record: JsonRecord
}

export interface UpdateEvent extends CommitFields {
  type: 'update'
  cid: string
  record: JsonRecord
}

export interface DeleteEvent extends CommitFields {
  type: 'delete'
}

/**
 * The repository is at `rev`. After a resync, each chunk of the export carries such an event with the key range that
 * the chunk covers. Then, among records that were written at or before `rev`, the index must hold exactly `keys` within
 * `range`.
 */
export interface RepoEvent {
  type: 'repo'
  time: string
  did: string
  commit: string
  rev: string
  /** `[from, to)` in record paths (`collection/rkey`, byte order); `''` as `to` means no upper end. */
  range?: [from: string, to: string]
  /** The record paths that exist in `range`, in byte order. Present exactly when `range` is. */
  keys?: string[]
}

export interface AccountEvent {
  type: 'account'
  seq: number
  time: string
  did: string
  active: boolean
  /**
   * Why the account is not active (`takendown`, `suspended`, `deleted`, `deactivated`, …); values that we do not know
   * are kept.
   */
  status?: string
  /** The host that said so, without scheme; only for people to read. */
  host?: string
}

export interface IdentityEvent {
  type: 'identity'
  seq: number
  time: string
  did: string
  /** A hint, not verified. */
  handle?: string
}

export type RecordEvent = CreateEvent | UpdateEvent | DeleteEvent
export type StreamEvent = RecordEvent | RepoEvent | AccountEvent | IdentityEvent

/** A record in lexicon JSON. */
export type JsonRecord = { $type?: string } & { [key: string]: unknown }

/** The path of a record inside its repository. */
export function pathOf(event: { collection: string; rkey: string }): string {
  return `${event.collection}/${event.rkey}`
}

/** The AT URI of the record that an event is about. */
export function uriOf(event: { did: string; collection: string; rkey: string }): string {
  return `at://${event.did}/${pathOf(event)}`
}

/** The DID of an AT URI whose authority is a DID; `at://did:plc:a/b/c` → `did:plc:a`. */
export function didOfUri(uri: string): string {
  const end = uri.indexOf('/', 5)
  return end === -1 ? uri.slice(5) : uri.slice(5, end)
}

/** The record key of an AT URI of a record; `at://did:plc:a/b/c` → `c`. */
export function rkeyOfUri(uri: string): string {
  return uri.slice(uri.lastIndexOf('/') + 1)
}
