/**
 * How a collection depends on records of other collections or accounts, and what the engine asks of it then: derived
 * columns, what is remembered of earlier versions, which records a change concerns. Most collections need none of it;
 * the example is `app.bsky.feed.post`, with `threads/`.
 */
import type { Entry, Notification, Written } from './record.ts'

/** The properties of a collection that depends on other records, or on which others depend. */
export interface Dependence<R> {
  /** Columns of the primary table that depend on other records. */
  derived: readonly string[]
  /** The derived columns on which other records depend. Default: all. */
  passedOn?: readonly string[]
  /**
   * Selects rows of the primary table that `derive` may change, among rows that were written without `derive` (a bulk
   * load writes these, without derived columns and notifications). Looks at rows whose owner is after $1 and up to $2.
   * For every row that it leaves out, `derive` must change nothing, whatever the index contains. Returns `uri`, in
   * order. Default: all rows.
   */
  derivable?: Statement
  /** The fact that a version leaves behind when a newer one supersedes it. */
  remembers?: (entry: Entry<R>) => Fact
  /**
   * Finds the records in the index whose derived columns or notifications may depend on these versions. Called after
   * the commit. A deletion in `touched` may also be a question: for all records that hang on `uri` and were written at
   * `rev` or later (`settle-later.ts` asks so).
   */
  affects?: (sql: Sql, touched: readonly Touched<R>[], asked: Asked) => Promise<Affected>
  /**
   * Finds what `affects` finds without a limit of room and with nothing unseen, in parts of at most `atOnce` records.
   * Each part is queried when the caller asks for it.
   */
  affectsInParts?: (sql: Sql, touched: readonly Touched<R>[], atOnce: number) => AsyncIterable<string[]>
}

/**
 * A collection with columns that depend on other records has both `derive` and `hangsFrom`. Any other collection has
 * neither.
 */
export type Deriving<R> = DependsOnOthers<R> | { derive?: undefined; hangsFrom?: undefined }

interface DependsOnOthers<R> {
  /**
   * Fills in the derived columns of rows that are about to be inserted, with statements over the whole batch. Resolves
   * to the notifications that depend on other records, by record URI. A record that is not in that map has the
   * notifications of `notifications`.
   */
  derive: (sql: Sql, written: readonly Written<R>[]) => Promise<ReadonlyMap<string, Notification[]> | void>
  /**
   * Returns `uri` and `above` for each record of the primary table whose owner is in $1. `above` is the record of the
   * same collection through which `affects` finds this one (a reply's parent), or null. When a walk down a thread
   * becomes too long, it stops and hands over the records above those that it has not derived yet. Another walk that
   * continues from these finds the rest.
   */
  hangsFrom: Statement
}

/** A statement that is prepared once per connection. */
export interface Statement {
  name: string
  text: string
}

/** Runs statements inside the engine's transaction. */
export interface Sql {
  query<T extends object>(statement: Statement, values: unknown[]): Promise<T[]>
}

/**
 * One version of a record that a batch brought or that was derived again. Other records may depend on it, whether or
 * not it is the newest version.
 */
export interface Touched<R = unknown> {
  uri: string
  did: string
  rev: string
  /** The record of this version. Absent: this version is a deletion. */
  entry?: Entry<R>
  /** The derived columns of this version were computed with the batch. */
  derived: boolean
  /** The index knew nothing of the record's path before: no earlier version, no tombstone. */
  first?: boolean
  /**
   * The version before this one is known and was in force until this one. Either this is the newest deletion, or a
   * version with its own commit that is newer than what the index held.
   */
  follows?: boolean
  /** An export may have brought the same version before, and then it counted from the time that the record claims. */
  claims?: boolean
  /** Only for a record that was derived again: whether a column changed on which other records depend (`passedOn`). */
  passesOn?: boolean
  /** Only for a record that was derived again: nothing about it changed. */
  same?: boolean
}

/**
 * Which rows of other transactions our transaction may not have seen. `since`: rows written by this Postgres xid or a
 * younger one (null: any row). `own`: our transaction's xid. `'nothing'`: no other transaction ran beside ours.
 */
export type Unseen = { since: string | null; own?: string } | 'nothing'

/** The records that may depend on some versions. */
export interface Affected {
  uris: string[]
  /**
   * More such records, of which only a mark for readers may change (a post's `hasThreadGate`). No other record depends
   * on that mark.
   */
  marked?: string[]
  /**
   * Versions on which more records hang than there was room to look at. The records that hang on these need not be in
   * `uris`.
   */
  beyond: Beyond[]
}

/**
 * How many records may be looked at: `all` for all versions together. When that is not enough, `each` for each version
 * alone.
 */
export interface Room {
  all: number
  each: number
}

/** Limits of one call of `affects`. */
export interface Asked {
  unseen: Unseen
  /** Default: no limit. */
  room?: Room | undefined
}

/**
 * A record, and a time (TID): the records to be judged again hang on it and were written at that time or later. '': at
 * any time.
 */
export interface Beyond {
  uri: string
  since: string
}

/**
 * What is remembered of a version that is no longer in force, to judge records that arrive late. Never the record's
 * content.
 */
export interface Fact {
  /** What the fact is about, for example `follow <follower> <followed>`. Late records look it up by this key. */
  key: string
  /** When the fact began to hold (TID). */
  since: string
  fact: unknown
}

/**
 * Marks a fact of a relation (a follow, a list item). `since` of such a fact is the rev of its record version. The next
 * version of the record ends the fact, also where that version has another key: a follow of A that is edited into a
 * follow of B ends the fact about A.
 *
 * The fact is this text when its beginning is known: the version came with its own commit.
 */
export const KNOWN_FROM = 'known'
/**
 * The fact is an object with this property when an export brought the version: the relation existed by `since`, and the
 * property has the time at which it says to have begun (TID). `version` has the CID. When the version's own commit
 * comes, the fact becomes `KNOWN_FROM`.
 */
export const CLAIMED_FROM = 'from'

/** Whether the fact is that of a relation, remembered from its version's rev on. */
export function isOfRev({ fact }: Fact): boolean {
  return fact === KNOWN_FROM || (typeof fact === 'object' && fact !== null && CLAIMED_FROM in fact)
}
