/** Autovacuum leaves the tables that mostly grow alone while they are small. */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

/**
 * A share of the table is nearly all that autovacuum waits for otherwise, so a table that is filled for the first time
 * is vacuumed and counted over and over: while 100,000 events grew to 600,000, that took a quarter of PostgreSQL's CPU.
 * What a vacuum gives (index-only scans, room for new rows) is little while the whole table is in memory. Beyond some
 * millions of rows the shares of 0002 and 0006, or the server's own, decide as before.
 */
export const smallTables: Migration = {
  name: '0007-small-tables',
  async up(client: ClientBase) {
    await client.query(
      TABLES.map(
        (table) => `
          alter table ${table} set (
            autovacuum_vacuum_insert_threshold = 1000000, autovacuum_vacuum_threshold = 100000, autovacuum_analyze_threshold = 100000
          );`,
      ).join('\n'),
    )
  },
}

const TABLES = [
  'record',
  '"like"',
  'post',
  'follow',
  'repost',
  'actor_block',
  'feed_item',
  'notification',
  'post_embed_image',
  'post_embed_external',
  'post_embed_record',
  'quote',
  'list_item',
  'tombstone',
  'past_fact',
]
