/**
 * Replies that were judged by a gate's rules, by their author in the order of their times: of whoever is put on a list,
 * what was written since is looked at, and not all that was ever.
 */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const gatedSince: Migration = {
  name: '0014-gated-since',
  async up(client: ClientBase) {
    await client.query(GATED_SINCE)
  },
}

/**
 * With the URI, so that any number of one moment are read part by part too; as an expression, since whoever asks for
 * URIs in a table that PostgreSQL believes to be small would read all of an index in which they stand. Few replies are
 * in a thread whose gate names somebody, and the table is locked for as long as they are read; whoever has many builds
 * it before, concurrently and by this name. Not instead of the index by (creator, owner), by which a follow between two
 * finds theirs alone.
 */
export const GATED_SINCE = `
create index if not exists gated_reply_creator_at_idx on gated_reply (creator, at, (uri || ''));
`
