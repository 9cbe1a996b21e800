/** Records on which more hangs than a batch settles itself. A new and small table: nothing is locked or rewritten. */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const settleLater: Migration = {
  name: '0013-settle-later',
  async up(client: ClientBase) {
    await client.query(SETTLE_LATER)
  },
}

/**
 * `settle_later`: one row a record, until all that hangs on it and was written since `since` (TID; '': ever) is
 * settled. Somebody who works on it holds a `claim`, until when that is also `dueAt`, for what is in `working`; what
 * comes meanwhile is in `since`, which is null else.
 */
export const SETTLE_LATER = `
create table settle_later (
  uri varchar primary key,
  since varchar,
  working varchar,
  "dueAt" varchar not null,
  claim varchar,
  tries bigint not null
);
create index settle_later_first_due_idx on settle_later ("dueAt") where tries = 0;
create index settle_later_again_due_idx on settle_later ("dueAt") where tries > 0;
`
