/** Each queue of deletions in the order in which its rows come due. */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const deletionQueues: Migration = {
  name: '0012-deletion-queues',
  async up(client: ClientBase) {
    await client.query(DELETION_INDEXES)
  },
}

/**
 * By (state, "dueAt") alone each claim read and sorted all that was due, of whichever queue: a PDS that closes with a
 * million accounts would have had a million claims of a million rows. The table is small in general, and is locked for
 * as long as its rows are read.
 */
export const DELETION_INDEXES = `
create index account_deletion_new_due_idx on account_deletion ("dueAt") where state in ('reported', 'purging') and tries = 0;
create index account_deletion_failing_due_idx on account_deletion ("dueAt") where state in ('reported', 'purging') and tries > 0;
`
