/**
 * What makes posts converge with the posts, gates, follows and lists by which they are judged, whatever arrives first;
 * and the order of account events.
 *
 * On an adopted database the index on `post` is the one statement that takes time: it keeps writers of `post`, and no
 * readers, out while it reads the table (about a minute per 10 million posts). It comes before the columns, whose lock
 * keeps readers out until the end. Whoever wants to avoid that builds it first, with the same name, by `create index
 * concurrently`.
 */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

export const threads: Migration = {
  name: '0003-threads',
  async up(client: ClientBase) {
    await client.query(THREADS)
  },
}

/**
 * `record.fromExport`: its rev is that of an export's head, which does not tell when the record was written.
 * `past_fact`: something about a record that was true from `since` until before `until` (TIDs), and is no more: a
 * deleted post's place in its thread, an earlier gate, an ended follow. Never the content. `gated_reply`: replies that
 * were judged by a gate's rules, by who may be looked for; `at` (TID) is the moment by which one is judged.
 * `actor_sync.accountAt`: when the account event in force happened, by the clock of who said it.
 * `past_fact_list_owner_idx` is for older builds only, which looked for ended list items by the list's owner: one that
 * is rolled back to would read all of `past_fact` without it.
 */
export const THREADS = `
create table past_fact (
  uri varchar not null,
  did varchar not null,
  key varchar not null,
  since varchar not null,
  until varchar not null,
  fact jsonb not null,
  primary key (uri, since)
);
create index past_fact_key_idx on past_fact (key);
create index past_fact_list_owner_idx on past_fact (did) where key like 'listitem %';
create index past_fact_parent_idx on past_fact ((fact ->> 'parent')) where fact ->> 'parent' is not null;

create table gated_reply (
  uri varchar primary key,
  creator varchar not null,
  owner varchar not null,
  at varchar not null
);
create index gated_reply_creator_owner_idx on gated_reply (creator, owner);

create index if not exists post_reply_root_idx on post ("replyRoot") where "replyRoot" is not null;

alter table record add column if not exists "fromExport" boolean;

alter table actor_sync add column if not exists "accountAt" varchar;
`
