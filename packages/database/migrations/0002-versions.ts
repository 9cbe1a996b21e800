/**
 * What makes rows converge in any order of events, and the storage settings of the tables that we write most.
 *
 * On an adopted database each statement takes its lock for an instant, whatever the size of the table. One exception:
 * where `notification.id` is still an integer, it becomes a bigint, and PostgreSQL rewrites that table under an
 * exclusive lock (minutes per 100 million rows). An integer runs out at 2.1 billion notifications, so better now than
 * then.
 */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const versions: Migration = {
  name: '0002-versions',
  async up(client) {
    // First: while it rewrites a table, nothing keeps readers out of the others.
    await widenNotificationId(client)
    await client.query(STATEMENTS)
  },
}

/**
 * A record keeps the rev it was last written at (null: it was here before us); a tombstone keeps the rev of the
 * deletion until no older event can be queued. `actor_sync.resyncRev` is the rev of the last resync: live events at or
 * below it are in the rows already.
 *
 * fillfactor 90: these rows are updated in place, over and over, on columns that no index holds. With room left on the
 * page an update is a HOT update, which writes no index and is cleaned up without vacuum.
 *
 * Autovacuum waits for 20 % of a table by default. Of a billion rows that is 200 million: far too late for the
 * statistics, and the visibility map behind index-only scans.
 */
const STATEMENTS = `
alter table record add column if not exists rev varchar;

create table tombstone (
  uri varchar primary key,
  did varchar not null,
  rev varchar not null,
  "deletedAt" varchar not null
);

alter table actor_sync add column if not exists "resyncRev" varchar;

alter table actor_sync set (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
alter table post_agg set (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
alter table profile_agg set (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
${['record', '"like"', 'post', 'follow', 'repost', 'feed_item', 'notification']
  .map(
    (table) =>
      `alter table ${table} set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);`,
  )
  .join('\n')}
`

async function widenNotificationId(client: ClientBase): Promise<void> {
  const { rows } = await client.query<{ sequence: string | null; columnType: string; sequenceType: string }>(
    `select c.sequence, a.atttypid::regtype::text as "columnType",
            (select s.seqtypid::regtype::text from pg_sequence s where s.seqrelid = c.sequence::regclass) as "sequenceType"
       from pg_attribute a, (select pg_get_serial_sequence('notification', 'id') as sequence) c
      where a.attrelid = 'notification'::regclass and a.attname = 'id'`,
  )
  const { sequence, columnType, sequenceType } = rows[0]!
  if (columnType === 'integer') await client.query('alter table notification alter column id type bigint')
  if (sequenceType === 'integer') await client.query(`alter sequence ${sequence} as bigint`)
}
