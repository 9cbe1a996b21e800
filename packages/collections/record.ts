/**
 * One record on its way through a plugin: what the plugin is given (`Entry`), and what it makes of it (rows of its
 * tables, notifications, a refusal). Only types. `define.ts` says how a plugin is written, `depends.ts` how it depends
 * on records of others.
 */

/** One record as the indexer sees it: validated, with its identity parsed. */
export interface Entry<R = unknown> {
  uri: string
  cid: string
  did: string
  rkey: string
  /** The rev of the commit that wrote the record. For a record from an export: the rev of the export's head. */
  rev: string
  /** True: the record came with its own commit, so `rev` tells when it was written. False: it came with an export. */
  live: boolean
  /** Lexicon JSON, valid for the collection's lexicon. */
  record: R
  /** The record's `createdAt` in the normal form of timestamps; `indexedAt` when it has none. */
  createdAt: string
  /** When the commit was made, or when the export was read. */
  indexedAt: string
  /** The earlier of `createdAt` and `indexedAt`. Feeds sort by it. */
  sortAt: string
}

export interface Row {
  table: Table
  /** `jsonb?` columns hold any JSON value. */
  values: { [column: string]: unknown }
}

/** A table that records write to. */
export interface Table {
  readonly name: string
  readonly columns: Columns
  /** The column with the URI of the record to which the row belongs. The row is removed with that record. */
  readonly owner: string
  /**
   * Rows stay when their record is deleted; the column `deletedAt` then has the time of the deletion. `key` is the
   * table's primary key.
   */
  readonly outlives?: { readonly deletedAt: string; readonly key: readonly string[] }
}

/** A Postgres type that the engine can write; a trailing `?` means nullable. */
export type ColumnType = 'text' | 'text?' | 'boolean?' | 'jsonb?'
export type Columns = { readonly [name: string]: ColumnType }

export interface Notification {
  /** The account that is notified. */
  did: string
  reason: string
  reasonSubject: string | null
  /** The position among the account's notifications. Default: the record's `sortAt`. */
  sortAt?: string
}

/** Why a record is not indexed although it is valid by its lexicon. */
export interface Refusal {
  /**
   * `invalid-record`: the AppView could not read the record. `wrong-owner`: the record changes something that belongs
   * to another account, for example another account's list.
   */
  reason: 'invalid-record' | 'wrong-owner'
  detail: string
}

/** A record with its rows, which are about to be inserted or were just inserted. */
export interface Written<R = unknown> {
  entry: Entry<R>
  rows: Row[]
}
