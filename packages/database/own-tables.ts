/** Our own tables beside the AppView's, as types for kysely: part of `Schema` in schema.ts. */
import type { Json } from './schema.ts'

/** Ours: an account about whose status sources disagree, and whose host is to be asked. */
export interface AccountCheckTable {
  did: string
  /** `new`, `failing` or `asked`; a row in the state `asked` only waits to be forgotten. */
  state: string
  dueAt: string
  /** Names the claim that is in force; null: there is none. */
  claim: string | null
  /** How often its host was asked since the row was made. */
  tries: number
}

/** Ours: an account whose deletion was reported and waits to be confirmed, is being carried out, or was undone. */
export interface AccountDeletionTable {
  did: string
  /** `reported`, `purging`, `purged` or `returned`. */
  state: string
  deletedAt: string
  dueAt: string
  tries: number
  /** TIDs of the purges that have begun: the marks and watermarks of a purge carry its TID. */
  purgeRevs: string[] | null
}

/**
 * Ours: a reply that was judged by a gate's rules, where the follows and lists of an account may change the verdict.
 */
export interface GatedReplyTable {
  uri: string
  creator: string
  owner: string
  /** TID: the moment at which the verdict is determined. */
  at: string
}

/** Ours: when an account's handle is due to be verified next. */
export interface HandleCheckTable {
  did: string
  /** `new`, `again` or `failing`; served in this order. */
  queue: string
  dueAt: string
  /** The time of the newest identity event; empty: there was none. */
  askedAt: string
  /** How many checks in a row found no handle. */
  tries: number
}

/** Ours: a fact that was true about a record from `since` until before `until` (TIDs), and is true no longer. */
export interface PastFactTable {
  uri: string
  did: string
  key: string
  since: string
  until: string
  fact: Json<unknown>
}

/** Ours: a record on which more other records hang than a batch settles itself. */
export interface SettleLaterTable {
  uri: string
  /**
   * TID: records written since then that hang on it must be settled, and nobody works on that yet; '': whenever they
   * were written; null: none.
   */
  since: string | null
  /** Like `since`, for the part that somebody works on now. */
  working: string | null
  dueAt: string
  /** Names the claim that is in force; null: nobody works on it. */
  claim: string | null
  /** How often it was claimed. */
  tries: number
}

/** Ours: a deleted record, kept until no older event about it can be queued any more. */
export interface TombstoneTable {
  uri: string
  did: string
  /** The rev of the deletion. */
  rev: string
  deletedAt: string
}

/** Ours: an index that a bulk load has dropped and must make again. */
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
