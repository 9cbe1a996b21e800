/** When autovacuum looks after the tables that mostly grow. */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

/**
 * A vacuum of these tables reads all of their indexes as soon as one page in fifty has a dead row, and with 8 %
 * deletions that is nearly always. At every 5 % of growth, as 0002 had it, that is some 20 KB of index to read for each
 * event, at 20 % some 5 (from the sizes in docs/benchmarks.md). Statistics may be a tenth behind: the planner scales
 * the number of rows by the size of the table. The price: an index-only scan looks into the table for more of what is
 * new.
 */
export const autovacuum: Migration = {
  name: '0006-autovacuum',
  async up(client: ClientBase) {
    await client.query(
      ['record', '"like"', 'post', 'follow', 'repost', 'feed_item', 'notification']
        .map(
          (table) =>
            `alter table ${table} set (autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.1);`,
        )
        .join('\n'),
    )
  },
}
