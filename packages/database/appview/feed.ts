/** The AppView's tables about posts: posts and what they embed, threads and gates, likes, reposts, feeds, counters. */
export const feedTables = `
create table post (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  text varchar not null,
  "replyRoot" varchar,
  "replyRootCid" varchar,
  "replyParent" varchar,
  "replyParentCid" varchar,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  langs jsonb,
  "invalidReplyRoot" boolean,
  "violatesThreadGate" boolean,
  tags jsonb,
  "violatesEmbeddingRules" boolean,
  "hasThreadGate" boolean,
  "hasPostGate" boolean
);
create index post_creator_cursor_idx on post (creator, "sortAt", cid);
create index post_order_by_idx on post ("sortAt", cid);
create index post_replyparent_idx on post ("replyParent") include (uri);

create table post_agg (
  uri varchar primary key,
  "likeCount" bigint not null default 0,
  "replyCount" bigint not null default 0,
  "repostCount" bigint not null default 0,
  "quoteCount" bigint not null default 0,
  "bookmarkCount" bigint not null default 0
);

create table post_embed_image (
  "postUri" varchar not null,
  "position" varchar not null,
  "imageCid" varchar not null,
  alt varchar not null,
  primary key ("postUri", "position")
);

create table post_embed_gallery_image (
  "postUri" varchar not null,
  "position" varchar not null,
  "imageCid" varchar not null,
  alt varchar not null,
  primary key ("postUri", "position")
);

create table post_embed_external (
  "postUri" varchar primary key,
  uri varchar not null,
  title varchar not null,
  description varchar not null,
  "thumbCid" varchar
);

create table post_embed_record (
  "postUri" varchar not null,
  "embedUri" varchar not null,
  "embedCid" varchar not null,
  primary key ("postUri", "embedUri")
);

create table post_embed_video (
  "postUri" varchar primary key,
  "videoCid" varchar not null,
  alt varchar
);

create table quote (
  uri varchar primary key,
  cid varchar not null,
  subject varchar not null,
  "subjectCid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored
);
create index quote_subject_cursor_idx on quote (subject, "sortAt", cid);

create table op_thread_reply (
  "rootUri" varchar not null,
  "parentUri" varchar not null,
  uri varchar not null,
  "deletedAt" varchar,
  primary key ("rootUri", uri)
);

create table thread_gate (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "postUri" varchar not null unique,
  "createdAt" varchar not null,
  "indexedAt" varchar not null
);

create table post_gate (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "postUri" varchar not null unique,
  "createdAt" varchar not null,
  "indexedAt" varchar not null
);

create table "like" (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  subject varchar not null,
  "subjectCid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  via varchar,
  "viaCid" varchar,
  constraint like_unique_subject unique (subject, creator)
);
create index like_creator_cursor_idx on "like" (creator, "sortAt", cid);
create index like_subject_sort_at_creator_idx on "like" (subject, "sortAt" desc) include (creator);

create table repost (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  subject varchar not null,
  "subjectCid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
  via varchar,
  "viaCid" varchar,
  constraint repost_unique_subject unique (creator, subject)
);
create index repost_order_by_idx on repost ("sortAt", cid);
create index repost_subject_idx on repost (subject);

create table feed_item (
  uri varchar primary key,
  cid varchar not null,
  type varchar not null,
  "postUri" varchar not null,
  "originatorDid" varchar not null,
  "sortAt" varchar not null
);
create index feed_item_cursor_idx on feed_item ("sortAt", cid);
create index feed_item_originator_cursor_idx on feed_item ("originatorDid", "sortAt", cid);
create index feed_item_post_uri_idx on feed_item ("postUri");

create table feed_generator (
  uri varchar primary key,
  cid varchar not null,
  creator varchar not null,
  "feedDid" varchar not null,
  "displayName" varchar,
  description varchar,
  "descriptionFacets" varchar,
  "avatarCid" varchar,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored
);
create index feed_generator_creator_index on feed_generator (creator);

create table suggested_feed (
  uri varchar primary key,
  "order" integer not null
);

-- The one materialized view, and the table its two limits are read from when it is refreshed.
create table view_param (
  name varchar primary key,
  value varchar
);
insert into view_param (name, value) values ('whats_hot_like_threshold', '2'), ('whats_hot_interval', '1day');

create materialized view algo_whats_hot_view as
select
  post.uri,
  post.cid,
  round(1000000 * (post_agg."likeCount" / ((extract(epoch from age(now(), post."indexedAt"::timestamp)) / 3600 + 2) ^ 1.8))) as score
from post
join post_agg on post_agg.uri = post.uri
where post."indexedAt" > (
    select to_char(now() - value::interval, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as val
    from view_param where name = 'whats_hot_interval'
  )
  and post."replyParent" is null
  and post_agg."likeCount" > (
    select value::integer as val from view_param where name = 'whats_hot_like_threshold'
  );
create unique index algo_whats_hot_view_uri_idx on algo_whats_hot_view (uri);
create index algo_whats_hot_view_cursor_idx on algo_whats_hot_view (score, cid);
`
