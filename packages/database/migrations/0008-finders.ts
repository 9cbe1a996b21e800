/** Indexes by which batches find rows that the AppView's own indexes do not lead to. */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const finders: Migration = {
  name: '0008-finders',
  async up(client: ClientBase) {
    await client.query(FINDERS)
  },
}

/**
 * The primary keys begin with the thread's root. Whoever looks for a deleted post's place in its thread, or for what an
 * account has muted, would read all of the index for each. Building them keeps writers of these tables out, of which
 * the larger has a row for each reply that authors give themselves: minutes when a full index is adopted.
 */
export const FINDERS = `
create index if not exists op_thread_reply_uri_idx on op_thread_reply (uri);
create index if not exists thread_mute_muted_by_idx on thread_mute ("mutedByDid");
`
