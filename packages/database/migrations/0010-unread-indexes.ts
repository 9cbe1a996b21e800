/** Indexes of the AppView's schema that cost each row and that nobody reads. */
import type { ClientBase } from 'pg'
import { textOrder } from '../collation.ts'
import type { Migration } from './migration.ts'

export const unreadIndexes: Migration = {
  name: '0010-unread-indexes',
  async up(client: ClientBase, schema: string) {
    // Where text has another order a URI's range is no way to an account's rows.
    if (!(await textOrder(client, schema)).bytewise) return
    await client.query(`drop index if exists ${UNREAD_INDEXES.join(', ')}`)
    // A first load has put them off until its end.
    await client.query('delete from bulk_index where name = any($1::text[])', [UNREAD_INDEXES])
  },
}

/**
 * Only the official indexer asks for them, when it deletes an account or a post; here the account is the beginning of a
 * URI that another index begins with. Without the first two an event took 56 µs of PostgreSQL instead of 62, and 2.9 KB
 * of WAL instead of 3.1 (means of six windows of 200,000 events each).
 *
 * To drop one keeps readers out of its table for an instant. A build from before this, rolled back to, is right without
 * them, but reads whole tables for each account that it purges: its `doctor` misses them, and tells how to make them.
 */
export const UNREAD_INDEXES: readonly string[] = ['record_did_idx', 'notification_author_idx', 'feed_item_post_uri_idx']
