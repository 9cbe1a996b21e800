/**
 * The AppView's tables about who relates to whom: follows, blocks, lists, starter packs, notifications, suggestions.
 */
export const graphTables = `
create table follow (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "subjectDid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  constraint follow_unique_subject unique (creator, "subjectDid")
);
create index follow_creator_cursor_idx on follow (creator, "sortAt", cid);
create index follow_subject_cursor_idx on follow ("subjectDid", "sortAt", cid);

create table actor_block (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "subjectDid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  constraint actor_block_unique_subject unique (creator, "subjectDid")
);
create index actor_block_subjectdid_idx on actor_block ("subjectDid");

create table list (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  name varchar not null,
  purpose varchar not null,
  description varchar,
  "descriptionFacets" varchar,
  "avatarCid" varchar,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored
);
create index list_creator_idx on list (creator);

create table list_item (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "subjectDid" varchar not null,
  "listUri" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  constraint list_item_unique_subject_in_list unique ("listUri", "subjectDid")
);
create index list_item_creator_idx on list_item (creator);
create index list_item_subject_idx on list_item ("subjectDid");

create table list_block (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "subjectUri" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  constraint list_block_unique_subject unique (creator, "subjectUri")
);

create table reference_list_opt_out (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "subjectUri" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  constraint reference_list_opt_out_unique_subject unique (creator, "subjectUri")
);

create table starter_pack (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  name varchar
);
create index starter_pack_creator_order_by_idx on starter_pack (creator, "sortAt", cid);
create index starter_pack_name_tgrm_idx on starter_pack using gist (name gist_trgm_ops);

create table notification (
  id bigserial primary key,
  did varchar not null,
  "recordUri" varchar not null,
  "recordCid" varchar not null,
  author varchar not null,
  reason varchar not null,
  "reasonSubject" varchar,
  "sortAt" varchar not null
);
create index notification_author_idx on notification (author);
create index notification_did_sortat_idx on notification (did, "sortAt");
create index notification_record_idx on notification ("recordUri");

create table suggested_follow (
  did varchar primary key,
  "order" integer not null
);

create table tagged_suggestion (
  tag varchar not null,
  subject varchar not null,
  "subjectType" varchar not null,
  primary key (tag, subject)
);
`
