/**
 * How a collection plugin is written: types and builders, no I/O.
 *
 * A plugin is a pure function from one record to rows, and a declaration of what follows from them (counters,
 * notifications, unique keys). The engine does everything else, for a whole batch in one transaction: it decides which
 * version of a record is the newest, removes the rows of the previous version, inserts, counts and notifies. What
 * depends on other records (does a reply's parent exist, does a gate forbid the reply) is not in the pure function: the
 * plugin derives it in a step over the whole batch (`derive`, in `depends.ts`).
 */
import type { Dependence, Deriving } from './depends.ts'
import type { ColumnType, Columns, Entry, Notification, Refusal, Row, Table } from './record.ts'

type Cell<T extends ColumnType> = T extends 'text'
  ? string
  : T extends 'text?'
    ? string | null
    : T extends 'boolean?'
      ? boolean | null
      : unknown
export type RowOf<C extends Columns> = { [K in keyof C]: Cell<C[K]> }
/**
 * A table with a typed constructor of its rows. The one declaration gives both the type of a row and the shape of the
 * statements.
 */
export interface TableOf<C extends Columns> extends Table {
  readonly columns: C
  row(values: RowOf<C>): Row
}

/** Declares a table. Leave out columns that Postgres generates (`sortAt`). */
export function table<const C extends Columns>(
  name: string,
  columns: C,
  { owner = 'uri', ...options }: { owner?: keyof C & string; outlives?: NonNullable<Table['outlives']> } = {},
): TableOf<C> {
  const declared: TableOf<C> = { name, columns, owner, ...options, row: (values) => ({ table: declared, values }) }
  return declared
}

/** A column of an aggregate table that counts rows of another table. Only the engine writes it, and keeps it exact. */
export interface Counter {
  /** Rows of `of` are counted, grouped by their column `by`. Rows with null in `by` do not count. */
  of: Table
  by: string
  /** A boolean column of `of`. Rows with true in it do not count. */
  unless?: string
  /** The count is in `column` of the row of `table` whose `key` has the value of `by`. */
  table: string
  key: string
  column: string
}

interface CountBuilder<C extends Columns> {
  unless(column: keyof C & string): CountBuilder<C>
  into(table: string, column: string, key?: string): Counter
}

/**
 * `count(like, 'subject').into('post_agg', 'likeCount')`: `likeCount` of the row `uri` = how many likes have that
 * `subject`.
 */
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
 * Says that an aggregate table must have a row for each value of a column, with zeros while nothing is counted. The
 * AppView counts an account's lists in the same query that reads its `profile_agg` row, and finds no lists where that
 * row is missing.
 */
export interface AggregateRow {
  /** Each value of column `by` of table `of` has a row. */
  of: Table
  by: string
  /** The aggregate table, and its column that holds the value. */
  table: string
  key: string
}

/**
 * `aggregateRow(list, 'creator', { table: 'profile_agg', key: 'did' })`: each account that has made a list has a row in
 * `profile_agg`.
 */
export function aggregateRow<C extends Columns>(
  of: TableOf<C>,
  by: keyof C & string,
  { table, key }: Pick<AggregateRow, 'table' | 'key'>,
): AggregateRow {
  return { of, by, table, key }
}

/**
 * Notifies `did` of the record. An account is notified of its own records only if the collection sets `notifiesSelf`.
 */
export function notify(did: string, reason: string, reasonSubject: string | null = null): Notification {
  return { did, reason, reasonSubject }
}

/** A schema step that a plugin brings, for tables that the AppView does not have. */
export interface TableScript {
  /**
   * The collection and a number (`com.example.thing/1`). Unique, and never changed once released: a database records
   * the names of the steps that it has run.
   */
  name: string
  /**
   * Statements that add tables, columns, indexes. They run once, in the transaction that records the name, with our
   * schema first in `search_path`.
   */
  sql: string
}

export type Collection<R = unknown> = Common<R> & Deriving<R>

/** The properties of every collection. */
interface Common<R> extends Dependence<R> {
  nsid: string
  /** The lexicon document, when `@atproto/api` does not have it. */
  lexicon?: object
  /** False: records are not checked against a lexicon. The official indexer does not check some collections. */
  validated: boolean
  /**
   * Create the plugin's own tables. To change a table later, add a script. `rows` and `tables` describe the state after
   * the last script.
   */
  migrations: readonly TableScript[]
  /**
   * The first is the primary table. A record that `unique` keeps out of the primary table has no rows in the others
   * either.
   */
  tables: readonly Table[]
  rows(entry: Entry<R>): Row[]
  /** Why a record must not be indexed although it is valid by its lexicon. Undefined: it may be indexed. */
  refuses(entry: Entry<R>): Refusal | undefined
  /**
   * Columns of the primary table, in which together no two rows may agree. Of several such records one has its rows,
   * and the others wait in `duplicate_record`.
   */
  unique: readonly string[]
  counters: readonly Counter[]
  aggregateRows: readonly AggregateRow[]
  notifications(entry: Entry<R>): Notification[]
  /** Accounts are notified of their own records too. */
  notifiesSelf: boolean
  /** Notifications of the record's deletion. With these, notifications of the record itself stay when it is deleted. */
  deletionNotifications?: (entry: Entry<R>) => Notification[]
}

type Spec<R> = Pick<Common<R>, 'rows'> & Partial<Omit<Common<R>, 'nsid' | 'rows'>> & Deriving<R>

/** Declares a plugin. `R`: the properties of a valid record that the lexicon guarantees and the plugin reads. */
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

/** `at://did:plc:a/app.bsky.feed.post/b` → `app.bsky.feed.post`. */
export function collectionOfUri(uri: string): string {
  // Not `split`: that would allocate an array and four strings for each URI.
  let from = 0
  for (let slashes = 0; slashes < 3; slashes++) {
    from = uri.indexOf('/', from) + 1
    if (from === 0) return ''
  }
  const to = uri.indexOf('/', from)
  return to === -1 ? uri.slice(from) : uri.slice(from, to)
}
