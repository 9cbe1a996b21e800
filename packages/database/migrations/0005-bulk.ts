/**
 * The state of a bulk load: whether one is under way, which indexes it has taken away, and how far its end has come.
 * Empty otherwise.
 */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const bulk: Migration = {
  name: '0005-bulk',
  async up(client: ClientBase) {
    await client.query(STATEMENTS)
  },
}

/**
 * `bulk_load` has one row at most. `bulk_index.isConstraint`: the index stands behind a unique constraint of its name.
 */
const STATEMENTS = `
create table bulk_load (
  id bigint primary key check (id = 1),
  phase varchar not null,
  "startedAt" varchar not null
);
create table bulk_index (
  name varchar primary key,
  "table" varchar not null,
  definition varchar not null,
  "isUnique" boolean not null,
  "isConstraint" boolean not null
);
create table bulk_step (
  name varchar primary key,
  position varchar not null,
  done boolean not null
);
`
