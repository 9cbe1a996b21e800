/** Our own tables beside the AppView's, as types for kysely: part of `Schema` in schema.ts. */
import type { Json } from './schema.ts'

/** Ours: an account of which different things are said, and whose host is to be asked. */
export interface AccountCheckTable {
  did: string
  /** `new`, `failing` or `asked`: that one waits to be forgotten. */
  state: string
  dueAt: string
  /** Names the claim that holds; null: none does. */
  claim: string | null
  /** How often its host was asked since the row was made. */
  tries: number
}

/** Ours: an account whose deletion was reported and is to be confirmed, is carried out, or was undone. */
export interface AccountDeletionTable {
  did: string
  /** `reported`, `purging`, `purged` or `returned`. */
  state: string
  deletedAt: string
  dueAt: string
  tries: number
  /** TIDs, of purges that have begun: those that their marks and watermarks stand at. */
  purgeRevs: string[] | null
}

/** Ours: a reply that a gate judged, by whose follows and lists may change the verdict. */
export interface GatedReplyTable {
  uri: string
  creator: string
  owner: string
  /** TID: the moment by which it is judged. */
  at: string
}

/** Ours: when an account's handle is next to be verified. */
export interface HandleCheckTable {
  did: string
  /** `new`, `again` or `failing`: in this order they are served. */
  queue: string
  dueAt: string
  /** The time of the newest identity event; empty: there was none. */
  askedAt: string
  /** How often in a row no handle came of it. */
  tries: number
}

/** Ours: what was true about a record from `since` until before `until` (TIDs), and is no more. */
export interface PastFactTable {
  uri: string
  did: string
  key: string
  since: string
  until: string
  fact: Json<unknown>
}

/** Ours: a record on which more hangs than a batch settles itself. */
export interface SettleLaterTable {
  uri: string
  /** TID: what was written since then hangs on it, and nobody works on that; '': ever; null: nothing. */
  since: string | null
  /** The same, of what somebody works on. */
  working: string | null
  dueAt: string
  /** Names the claim that holds; null: nobody works on it. */
  claim: string | null
  /** How often it was claimed. */
  tries: number
}

/** Ours: a deleted record, kept until no older event about it can be queued. */
export interface TombstoneTable {
  uri: string
  did: string
  /** The rev of the deletion. */
  rev: string
  deletedAt: string
}

/** Ours: an index that a bulk load took away. */
export interface BulkIndexTable {
  name: string
  table: string
  definition: string
  isUnique: boolean
  isConstraint: boolean
}

/** Ours: the bulk load under way, if there is one. */
export interface BulkLoadTable {
  id: number
  phase: 'loading' | 'finishing'
  startedAt: string
}

/** Ours: how far the end of a bulk load has come. */
export interface BulkStepTable {
  name: string
  position: string
  done: boolean
}
