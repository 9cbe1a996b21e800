/** The rows of one database that come from the firehose, by table, in a form that can be compared. */
import type { DatabasePool } from '@sluice/database/pool.ts'

export type Row = Readonly<Record<string, unknown>>

/**
 * The key columns of each table. If several rows have the same key, the first of one side is compared with the first of
 * the other.
 */
export const KEYS = {
  actor: ['did'],
  actor_sync: ['did'],
  record: ['uri'],
  duplicate_record: ['uri'],
  profile: ['uri'],
  post: ['uri'],
  feed_item: ['uri'],
  post_embed_image: ['postUri', 'position'],
  post_embed_gallery_image: ['postUri', 'position'],
  post_embed_external: ['postUri'],
  post_embed_record: ['postUri'],
  post_embed_video: ['postUri'],
  quote: ['uri'],
  op_thread_reply: ['rootUri', 'uri'],
  like: ['uri'],
  repost: ['uri'],
  follow: ['uri'],
  actor_block: ['uri'],
  list: ['uri'],
  list_item: ['uri'],
  list_block: ['uri'],
  thread_gate: ['uri'],
  post_gate: ['uri'],
  feed_generator: ['uri'],
  starter_pack: ['uri'],
  labeler: ['uri'],
  verification: ['uri'],
  reference_list_opt_out: ['uri'],
  notification: ['did', 'recordUri', 'reason', 'reasonSubject'],
  post_agg: ['uri'],
  profile_agg: ['did'],
} as const satisfies Record<string, readonly string[]>

export type TableName = keyof typeof KEYS
export const TABLE_NAMES = Object.keys(KEYS) as TableName[]

/** Columns that say nothing about the network: a counter of rows, and when a handle was last looked up. */
const IGNORED: Partial<Record<TableName, readonly string[]>> = { notification: ['id'], actor: ['indexedAt'] }
/** Columns that our tables have and upstream's have not. */
const OURS: Partial<Record<TableName, readonly string[]>> = {
  record: ['rev', 'fromExport'],
  actor_sync: ['resyncRev', 'accountAt'],
}

export class Tables {
  readonly #rows: Record<TableName, Map<string, Row[]>>

  private constructor(rows: Record<TableName, Map<string, Row[]>>) {
    this.#rows = rows
  }

  static async read(db: DatabasePool): Promise<Tables> {
    const read = TABLE_NAMES.map(async (table): Promise<[TableName, Map<string, Row[]>]> => {
      const { rows } = await db.query<{ row: Row }>(`select to_jsonb(t) as row from "${table}" t`)
      const ignored = new Set([...(IGNORED[table] ?? []), ...(OURS[table] ?? [])])
      const kept = rows.map(({ row }) => Object.fromEntries(Object.entries(row).filter(([name]) => !ignored.has(name))))
      return [table, Map.groupBy(kept.toSorted(byContent), (row) => keyOf(table, row))]
    })
    return new Tables(Object.fromEntries(await Promise.all(read)) as Record<TableName, Map<string, Row[]>>)
  }

  keys(table: TableName): IterableIterator<string> {
    return this.#rows[table].keys()
  }

  /** All rows of one key. */
  at(table: TableName, key: string): readonly Row[] {
    return this.#rows[table].get(key) ?? []
  }

  all(table: TableName): Row[] {
    return [...this.#rows[table].values()].flat()
  }

  /** A copy with one row replaced or removed. */
  with(table: TableName, row: Row, other: Row | undefined): Tables {
    const rows = { ...this.#rows }
    const all = this.all(table).flatMap((kept) => (kept === row ? (other ? [other] : []) : [kept]))
    rows[table] = Map.groupBy(all, (kept) => keyOf(table, kept))
    return new Tables(rows)
  }

  get size(): number {
    return TABLE_NAMES.reduce((sum, table) => sum + this.all(table).length, 0)
  }
}

export function keyOf(table: TableName, row: Row): string {
  return KEYS[table].map((column) => String(row[column])).join(' ')
}

function byContent(a: Row, b: Row): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1
}
