/**
 * Two durable queues about accounts, worked off beside the data path: whose handle is to be checked, and whose deletion
 * is to be confirmed and carried out. Both tables are new and small beside the others, so nothing is locked or
 * rewritten.
 */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const accounts: Migration = {
  name: '0004-accounts',
  async up(client: ClientBase) {
    await client.query(ACCOUNTS)
  },
}

/**
 * `handle_check`: one row an account; `dueAt` is when it is next looked at, and while somebody looks, when their claim
 * ends. `askedAt`: the time of the newest identity event, or empty. Its rows are rewritten at each check, and the index
 * moves with them, hence the early vacuum.
 *
 * `account_deletion`: a row lives from the report of a deletion until the account is back.
 */
export const ACCOUNTS = `
create table handle_check (
  did varchar primary key,
  queue varchar not null,
  "dueAt" varchar not null,
  "askedAt" varchar not null,
  tries bigint not null
) with (autovacuum_vacuum_scale_factor = 0.05);
create index handle_check_queue_due_idx on handle_check (queue, "dueAt");

create table account_deletion (
  did varchar primary key,
  state varchar not null,
  "deletedAt" varchar not null,
  "dueAt" varchar not null,
  tries bigint not null
);
create index account_deletion_state_due_idx on account_deletion (state, "dueAt");
`
