/**
 * The AppView's private tables: what its users keep with it and no repository holds. The AppView writes them, we never
 * do.
 */
export const privateTables = `
create table mute (
  "subjectDid" varchar not null,
  "mutedByDid" varchar not null,
  "createdAt" varchar not null,
  "onlyReposts" boolean not null default false,
  "onlyQuoteposts" boolean not null default false,
  primary key ("mutedByDid", "subjectDid")
);

create table list_mute (
  "listUri" varchar not null,
  "mutedByDid" varchar not null,
  "createdAt" varchar not null,
  primary key ("mutedByDid", "listUri")
);

create table thread_mute (
  "rootUri" varchar not null,
  "mutedByDid" varchar not null,
  "createdAt" varchar not null,
  primary key ("rootUri", "mutedByDid")
);

create table activity_subscription (
  creator varchar not null,
  "subjectDid" varchar not null,
  key varchar not null,
  "indexedAt" varchar not null,
  post boolean not null,
  reply boolean not null,
  primary key (creator, key),
  constraint activity_subscription_unique_creator_subject_did unique (creator, "subjectDid")
);

create table bookmark (
  creator varchar not null,
  key varchar not null,
  "subjectUri" varchar not null,
  "subjectCid" varchar not null,
  "indexedAt" varchar not null,
  primary key (creator, key),
  constraint bookmark_unique_uri_creator unique ("subjectUri", creator)
);

create table draft (
  creator varchar not null,
  key varchar not null,
  "createdAt" varchar not null,
  "updatedAt" varchar not null,
  payload text not null,
  primary key (creator, key)
);
create index draft_creator_updated_at_key_idx on draft (creator, "updatedAt", key);

create table private_data (
  "actorDid" varchar not null,
  namespace varchar not null,
  key varchar not null,
  payload text not null,
  "indexedAt" varchar not null,
  "updatedAt" varchar not null,
  primary key ("actorDid", namespace, key)
);

create table notification_push_token (
  did varchar not null,
  platform varchar not null,
  token varchar not null,
  "appId" varchar not null,
  primary key (did, token)
);

create table subscription (
  service varchar not null,
  method varchar not null,
  state varchar not null,
  primary key (service, method)
);
`
