import type { ClientBase } from 'pg'

/**
 * A step of the schema. It runs once per database, in the transaction that records it, with the schema first in
 * `search_path` and a short `lock_timeout`.
 *
 * To add one: a file here, a line in list.ts, its objects in the list of ../testing/additions.ts, its columns in
 * ../schema.ts.
 *
 * The tables of a running network are large, and the AppView reads them meanwhile. So a migration adds: new tables,
 * nullable columns, storage settings. What rewrites or scans a large table (a default that is computed, an index, a new
 * type) does not belong here without saying in its comment how long it locks what. What it takes away, builds from
 * before it must be right without.
 */
export interface Migration {
  /** Number and topic; the order of names is the order of the list. Never changed once released. */
  name: string
  up(client: ClientBase, schema: string): Promise<void>
}
