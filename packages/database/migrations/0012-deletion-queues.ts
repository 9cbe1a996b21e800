/** Each queue of deletions in the order in which its rows come due. */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const deletionQueues: Migration = {
  name: '0012-deletion-queues',
  async up(client: ClientBase) {
    await client.query(DELETION_QUEUES)
  },
}

/**
 * By (state, "dueAt") alone each claim read and sorted all that was due, of whichever queue: a PDS that closes with a million accounts would have had a million claims of a
 * million rows. The table has some thousand rows, and each costs a microsecond of it.
 */
export const DELETION_QUEUES = `
create index account_deletion_new_due_idx on account_deletion ("dueAt") where state in ('reported', 'purging') and tries = 0;
create index account_deletion_failing_due_idx on account_deletion ("dueAt") where state in ('reported', 'purging') and tries > 0;
`
