/**
 * Accounts whose host is to be asked how they stand, because what is said of them differs. A new and small table:
 * nothing is locked or rewritten.
 */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const accountChecks: Migration = {
  name: '0011-account-checks',
  async up(client: ClientBase) {
    await client.query(ACCOUNT_CHECKS)
  },
}

/**
 * `account_check`: one row an account, from news that say something else than was held until an hour after its host has
 * answered. `dueAt` is when it is next asked, while somebody asks when their claim ends, and after the answer when the
 * row goes. `claim`: the end of the claim that holds; null: nobody asks, or more was said since they asked.
 */
export const ACCOUNT_CHECKS = `
create table account_check (
  did varchar primary key,
  state varchar not null,
  "dueAt" varchar not null,
  claim varchar,
  tries bigint not null
);
create index account_check_state_due_idx on account_check (state, "dueAt");
`
