/** What ANALYZE and autovacuum need not look at. */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

/**
 * ANALYZE sorts a sample of 30,000 values of every column. Nobody searches by content ids, nor by the text of records and posts, which are the longest columns there are.
 *
 * Counters and heads of accounts are rewritten in place with every batch, so a twentieth of them has soon changed while they are few, and each round of
 * autovacuum vacuumed and counted them. HOT updates clean their pages themselves.
 */
export const statistics: Migration = {
  name: '0009-statistics',
  async up(client: ClientBase) {
    const uncounted = Object.entries(UNCOUNTED).map(
      ([table, columns]) =>
        `alter table ${table} ${columns.map((column) => `alter column ${column} set statistics 0`).join(', ')};`,
    )
    const rewritten = ['post_agg', 'profile_agg', 'actor_sync'].map(
      (table) =>
        `alter table ${table} set (autovacuum_vacuum_threshold = 100000, autovacuum_analyze_threshold = 100000);`,
    )
    await client.query([...uncounted, ...rewritten].join('\n'))
  },
}

const UNCOUNTED = {
  record: ['cid', 'json'],
  post: ['cid', 'text', '"replyRootCid"', '"replyParentCid"'],
  '"like"': ['cid', '"subjectCid"'],
  repost: ['cid', '"subjectCid"'],
  follow: ['cid'],
  feed_item: ['cid'],
  notification: ['"recordCid"'],
}
