/**
 * How a collection plugin is written: types and builders, no I/O.
 *
 * A plugin is one pure function from a record to rows, and declared outputs. The engine does everything else: it decides which record
 * version is the newest, removes the rows of the one before, inserts, counts, notifies, all for a whole batch in one transaction. What a pure function
 * cannot know (does the parent exist, does a gate forbid it) is a step over the whole batch.
 */

/** A Postgres type that the engine can write; a trailing `?` means nullable. */
export type ColumnType = 'text' | 'text?' | 'boolean?' | 'jsonb?'
type Cell<T extends ColumnType> = T extends 'text'
  ? string
  : T extends 'text?'
    ? string | null
    : T extends 'boolean?'
      ? boolean | null
      : unknown
export type Columns = { readonly [name: string]: ColumnType }
export type RowOf<C extends Columns> = { [K in keyof C]: Cell<C[K]> }
/** A table that records write to. */
export interface Table {
  readonly name: string
  readonly columns: Columns
  /** The column that holds the URI of the record that owns the row; rows live and die with it. */
  readonly owner: string
  /** Rows stay when their record goes: `deletedAt` then says when it did. `key` is the primary key. */
  readonly outlives?: { readonly deletedAt: string; readonly key: readonly string[] }
}

/** A table, and how a row of it is made. Declared once: it gives the type of a row and the shape of the statements. */
export interface TableOf<C extends Columns> extends Table {
  readonly columns: C
  row(values: RowOf<C>): Row
}

export interface Row {
  table: Table
  /** `jsonb?` columns hold any JSON value. */
  values: { [column: string]: unknown }
}

/** Declares a table. Columns that Postgres generates (`sortAt`) are left out. */
export function table<const C extends Columns>(
  name: string,
  columns: C,
  { owner = 'uri', ...options }: { owner?: keyof C & string; outlives?: NonNullable<Table['outlives']> } = {},
): TableOf<C> {
  const declared: TableOf<C> = { name, columns, owner, ...options, row: (values) => ({ table: declared, values }) }
  return declared
}

/** A column of an aggregate table that counts the rows of a table. Kept exact by the engine, never written by hand. */
export interface Counter {
  /** What is counted, by which of its columns; rows where it is null do not count. */
  of: Table
  by: string
  /** A boolean column; rows where it is true do not count. */
  unless?: string
  /** Where the count stands. */
  table: string
  key: string
  column: string
}

interface CountBuilder<C extends Columns> {
  unless(column: keyof C & string): CountBuilder<C>
  into(table: string, column: string, key?: string): Counter
}

/** `count(like, 'subject').into('post_agg', 'likeCount')`: `likeCount` of the row `uri` = how many likes have that `subject`. */
export function count<C extends Columns>(of: TableOf<C>, by: keyof C & string): CountBuilder<C> {
  const build = (unless?: string): CountBuilder<C> => ({
    unless: build,
    into: (table, column, key = 'uri') => ({
      of,
      by,
      ...(unless === undefined ? {} : { unless }),
      table,
      key,
      column,
    }),
  })
  return build()
}

/**
 * A row of an aggregate table that is there for each key in a column, with zeros while nothing is counted: a reader looks for other things beside it, and finds
 * none where it is missing.
 */
export interface AggregateRow {
  /** Whose keys, in which of its columns. */
  of: Table
  by: string
  table: string
  key: string
}

/** `aggregateRow(list, 'creator', { table: 'profile_agg', key: 'did' })`: whoever has made a list has a row of `profile_agg`. */
export function aggregateRow<C extends Columns>(
  of: TableOf<C>,
  by: keyof C & string,
  { table, key }: Pick<AggregateRow, 'table' | 'key'>,
): AggregateRow {
  return { of, by, table, key }
}

export interface Notification {
  /** Who is told. */
  did: string
  reason: string
  reasonSubject: string | null
  /** Where it stands among others; by default the record's `sortAt`. */
  sortAt?: string
}

/** Tells `did` about the record. Nobody is told of their own doing unless the collection says so. */
export function notify(did: string, reason: string, reasonSubject: string | null = null): Notification {
  return { did, reason, reasonSubject }
}

/** Why a record that fits its lexicon is not indexed all the same. */
export interface Refusal {
  /** `invalid-record`: the AppView could not read it; `wrong-owner`: somebody wrote into what is another's. */
  reason: 'invalid-record' | 'wrong-owner'
  detail: string
}

/** One record as the indexer sees it: validated, with its identity parsed. */
export interface Entry<R = unknown> {
  uri: string
  cid: string
  did: string
  rkey: string
  /** The rev of the commit that wrote it; of an export's head for one that came with an export. */
  rev: string
  /** It came with its own commit, whose rev tells when it was written. */
  live: boolean
  /** Lexicon JSON, valid for the collection's lexicon. */
  record: R
  /** The record's `createdAt` in the normal form of timestamps; `indexedAt` when it has none. */
  createdAt: string
  /** When its commit was made, or when the export was read. */
  indexedAt: string
  /** The earlier of the two: what feeds sort by. */
  sortAt: string
}

/** A record together with the rows that are about to be inserted, or were just inserted. */
export interface Written<R = unknown> {
  entry: Entry<R>
  rows: Row[]
}

/** A statement that is prepared once per connection. */
export interface Statement {
  name: string
  text: string
}

/** Statements inside the transaction that the engine runs. */
export interface Sql {
  query<T extends object>(statement: Statement, values: unknown[]): Promise<T[]>
}

/** One version of a record that a batch brought, whether or not it was the newest. */
export interface Touched<R = unknown> {
  uri: string
  did: string
  rev: string
  /** Absent: the record was deleted. */
  entry?: Entry<R>
  /** Its columns were derived with the batch. */
  derived: boolean
  /** Nothing was known of its path. */
  first?: boolean
  /** It is the newest, or it came with its own commit, and after what the index held of the path, which was in force until then. */
  follows?: boolean
  /** Of one that was derived again: false when nothing changed on which other records hang. */
  passesOn?: boolean
  /** It was derived again and found to be as it was. */
  same?: boolean
}

/**
 * What other transactions wrote that one of ours may not have seen: what is younger than a Postgres xid (null: than anything), or nothing at all. `own`: the
 * xid of ours.
 */
export type Unseen = { since: string | null; own?: string } | 'nothing'

/** What may hang on some versions. */
export interface Affected {
  uris: string[]
  /** More of them: a mark for readers is all that may change with these versions, and nothing hangs on that. */
  marked?: string[]
  /** Of these versions not all was looked at, and of what hangs on them nothing need be in `uris`. */
  beyond: Beyond[]
}

/** How many records are looked at: `all` for all versions together; when that does not do, `each` for each of them. */
export interface Room {
  all: number
  each: number
}

/** What `affects` is to look for. */
export interface Asked {
  unseen: Unseen
  /** Default: as many as there are. */
  room?: Room | undefined
}

/** A record, and from when on what hangs on it was written (TID; '': at any time). */
export interface Beyond {
  uri: string
  since: string
}

/** What is remembered of a version that is no longer in force, for what arrives late. Never the record's content. */
export interface Fact {
  key: string
  /** From when on it held (TID). */
  since: string
  fact: unknown
}

/**
 * A fact that is looked for by its key alone, remembered from the rev of its version on: so what another version of the record says ends it, or ends by it, whatever the key of either. It is
 * this text, of one that is known to have begun then.
 */
export const KNOWN_FROM = 'known'
/** Or an object with this property, of one that was there by then: when it says that it began (TID). */
export const CLAIMED_FROM = 'from'

/** Whether this is such a fact. */
export function isOfRev({ fact }: Fact): boolean {
  return fact === KNOWN_FROM || (typeof fact === 'object' && fact !== null && CLAIMED_FROM in fact)
}

/** A step of the schema that a plugin brings: for tables that are not the AppView's. */
export interface TableScript {
  /** The collection and a number (`com.example.thing/1`), unique, never changed once released: what a database remembers. */
  name: string
  /** Statements that add tables, columns, indexes; run once, in the transaction that records the name, with our schema first in `search_path`. */
  sql: string
}

export type Collection<R = unknown> = Common<R> & Deriving<R>

/** What every collection says. */
interface Common<R> {
  nsid: string
  /** The lexicon document, for a lexicon that is not among those of `@atproto/api`. */
  lexicon?: object
  /** False: the record is stored as it is, as the official indexer does for some. */
  validated: boolean
  /** Makes tables of its own. To change one later, add a script; `rows` and `tables` say what stands after the last. */
  migrations: readonly TableScript[]
  /** The first is the primary one: a record that `unique` keeps out of it has rows in none. */
  tables: readonly Table[]
  rows(entry: Entry<R>): Row[]
  /** Why a record that fits its lexicon must not be indexed. */
  refuses(entry: Entry<R>): Refusal | undefined
  /** Columns of the primary table of which no two rows may agree; the others wait in `duplicate_record`. */
  unique: readonly string[]
  counters: readonly Counter[]
  aggregateRows: readonly AggregateRow[]
  notifications(entry: Entry<R>): Notification[]
  /** People are told of their own doing too. */
  notifiesSelf: boolean
  /** Who hears that the record was deleted. What was told of it before then stays. */
  deletionNotifications?: (entry: Entry<R>) => Notification[]
  /** Columns of the primary table that depend on other records. */
  derived: readonly string[]
  /** Those of them on which other records hang. Default: all. */
  passedOn?: readonly string[]
  /**
   * Of the rows of the primary table after $1 and up to $2, by their owner, those that may be worth something else than they say when they were written without `derive`: with nothing in their derived
   * columns, and no notifications. Of all others `derive` leaves that as it is, whatever stands in the index. Resolves to `uri`, in order. Default: all rows.
   */
  derivable?: Statement
  /** Versions that are superseded leave this fact behind. */
  remembers?: (entry: Entry<R>) => Fact
  /** The records in the index whose derived columns or notifications may hang on these versions. Asked after the commit. A version that was deleted at `rev` may stand for all that hangs on the record since then. */
  affects?: (sql: Sql, touched: readonly Touched<R>[], asked: Asked) => Promise<Affected>
  /** All that `affects` would find if nothing is unseen, but in parts of at most so many, for versions on which any number hangs. Each part is asked for when it is wanted. */
  affectsInParts?: (sql: Sql, touched: readonly Touched<R>[], atOnce: number) => AsyncIterable<string[]>
}

/** Of a collection with columns that depend on other records both of these, of others none. */
type Deriving<R> = DependsOnOthers<R> | { derive?: undefined; hangsFrom?: undefined }

interface DependsOnOthers<R> {
  /**
   * Fills in the derived columns of rows that are about to be inserted, in statements over the whole batch. Resolves to the notifications that depend on
   * other records, by record URI; records that are not in it get those of `notifications`.
   */
  derive: (sql: Sql, written: readonly Written<R>[]) => Promise<ReadonlyMap<string, Notification[]> | void>
  /**
   * Of these records of the primary table, by owner ($1): `uri`, and as `above` the record of the same collection by which `affects` finds it, or null. A walk that is too long for one names those above, and whoever goes
   * on from there finds what had not been derived yet.
   */
  hangsFrom: Statement
}

type Spec<R> = Pick<Common<R>, 'rows'> & Partial<Omit<Common<R>, 'nsid' | 'rows'>> & Deriving<R>

/** A plugin. `R` is what its lexicon guarantees of a valid record, as far as the plugin uses it. */
export function collection<R>(nsid: string, spec: Spec<R>): Collection<R> {
  return {
    nsid,
    validated: true,
    migrations: [],
    tables: [],
    unique: [],
    counters: [],
    aggregateRows: [],
    notifiesSelf: false,
    derived: [],
    refuses: () => undefined,
    notifications: () => [],
    ...spec,
  }
}

/** A reference to one version of a record. */
export interface StrongRef {
  uri: string
  cid: string
}

/** A blob in lexicon JSON, in the form of today or the first one. */
export type BlobRef = { ref: { $link: string } } | { cid: string }

/** The CID of a blob, or null when there is none. */
export function blobCid(blob: BlobRef | undefined): string | null {
  if (!blob) return null
  return 'ref' in blob ? blob.ref.$link : blob.cid
}

/** `at://did:plc:a/app.bsky.feed.post/b` → `app.bsky.feed.post`. */
export function collectionOfUri(uri: string): string {
  // `split` makes an array and four strings.
  let from = 0
  for (let slashes = 0; slashes < 3; slashes++) {
    from = uri.indexOf('/', from) + 1
    if (from === 0) return ''
  }
  const to = uri.indexOf('/', from)
  return to === -1 ? uri.slice(from) : uri.slice(from, to)
}
