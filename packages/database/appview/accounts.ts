/** The AppView's tables about accounts and repositories: who exists, what they hold, what was said about them. */
export const accountTables = `
create table actor (
  did varchar primary key,
  handle varchar unique,
  "indexedAt" varchar not null,
  "takedownRef" varchar,
  "upstreamStatus" varchar,
  "trustedVerifier" boolean not null default false,
  "ageAssuranceStatus" text,
  "ageAssuranceLastInitiatedAt" varchar,
  "ageAssuranceAccess" text,
  "ageAssuranceCountryCode" text,
  "ageAssuranceRegionCode" text
);
create index actor_handle_tgrm_idx on actor using gist (handle gist_trgm_ops);

create table actor_sync (
  did varchar primary key,
  "commitCid" varchar not null,
  "repoRev" varchar
);

create table actor_state (
  did varchar primary key,
  "lastSeenNotifs" varchar not null,
  "priorityNotifs" boolean not null default false
);

create table did_cache (
  did varchar primary key,
  doc jsonb not null,
  "updatedAt" bigint not null
);

create table record (
  uri varchar primary key,
  cid varchar not null,
  did varchar not null,
  json text not null,
  "indexedAt" varchar not null,
  "takedownRef" varchar,
  tags jsonb
);
create index record_did_idx on record (did);

create table duplicate_record (
  uri varchar primary key,
  cid varchar not null,
  "duplicateOf" varchar not null,
  "indexedAt" varchar not null
);
create index duplicate_record_duplicate_of_idx on duplicate_record ("duplicateOf");

create table profile (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "displayName" varchar,
  description varchar,
  "avatarCid" varchar,
  "bannerCid" varchar,
  "indexedAt" varchar not null,
  "joinedViaStarterPackUri" varchar,
  "createdAt" varchar not null,
  "pinnedPost" varchar,
  "pinnedPostCid" varchar
);
create index profile_creator_idx on profile (creator);
create index profile_display_name_tgrm_idx on profile using gist ("displayName" gist_trgm_ops);
create index profile_starter_pack_joined_idx on profile ("joinedViaStarterPackUri", "createdAt");

create table profile_agg (
  did varchar primary key,
  "followersCount" bigint not null default 0,
  "followsCount" bigint not null default 0,
  "postsCount" bigint not null default 0
);

create table label (
  src varchar not null,
  uri varchar not null,
  cid varchar not null,
  val varchar not null,
  neg boolean not null,
  cts varchar not null,
  exp varchar,
  primary key (src, uri, cid, val)
);
create index label_cts_idx on label (cts);
create index label_uri_index on label (uri);

create table labeler (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored
);
create index labeler_order_by_idx on labeler ("sortAt", cid);

create table verification (
  uri varchar primary key,
  cid varchar not null,
  rkey varchar not null,
  creator varchar not null,
  subject varchar not null,
  handle varchar not null,
  "displayName" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortedAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  constraint verification_unique_subject_creator unique (subject, creator)
);
`
