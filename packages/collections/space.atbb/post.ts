/**
 * A post in a forum: the example of a lexicon that the AppView does not have (docs/add-a-lexicon.md). It brings its own
 * tables and counters.
 *
 * This plugin is not in the list of collections (`collections.ts`): an AppView for Bluesky needs no forum, and a
 * database should get no tables that nobody asked for. The tests run it as if it were listed.
 */
import { collection, count, table, type StrongRef } from '../define.ts'
import lexicon from './post.json' with { type: 'json' }

interface ForumPost {
  text: string
  forum: StrongRef
  reply?: { root: StrongRef; parent: StrongRef }
}

const post = table('atbb_post', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  forum: 'text',
  forumCid: 'text',
  text: 'text',
  replyRoot: 'text?',
  replyParent: 'text?',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<ForumPost>('space.atbb.post', {
  lexicon,
  migrations: [
    {
      name: 'space.atbb.post/1',
      sql: `
        create table atbb_post (
          uri varchar primary key,
          cid varchar not null,
          creator varchar not null,
          forum varchar not null,
          "forumCid" varchar not null,
          text varchar not null,
          "replyRoot" varchar,
          "replyParent" varchar,
          "createdAt" varchar collate "C" not null,
          "indexedAt" varchar collate "C" not null,
          "sortAt" varchar collate "C" generated always as (least("createdAt", "indexedAt")) stored not null
        );
        create index atbb_post_forum_idx on atbb_post (forum, "sortAt") where "replyRoot" is null;
        create index atbb_post_topic_idx on atbb_post ("replyRoot", "sortAt") where "replyRoot" is not null;
        create index atbb_post_creator_idx on atbb_post (creator, "sortAt");
        create index atbb_post_forum_count_idx on atbb_post (forum);
        create index atbb_post_parent_count_idx on atbb_post ("replyParent") where "replyParent" is not null;

        create table atbb_post_agg (uri varchar primary key, "replyCount" bigint not null default 0) with (fillfactor = 90);
        create table atbb_forum_agg (uri varchar primary key, "postCount" bigint not null default 0) with (fillfactor = 90);`,
    },
  ],
  tables: [post],
  rows: ({ uri, cid, did, record: { text, forum, reply }, createdAt, indexedAt }) => [
    post.row({
      uri,
      cid,
      creator: did,
      forum: forum.uri,
      forumCid: forum.cid,
      text,
      replyRoot: reply?.root.uri ?? null,
      replyParent: reply?.parent.uri ?? null,
      createdAt,
      indexedAt,
    }),
  ],
  counters: [
    count(post, 'replyParent').into('atbb_post_agg', 'replyCount'),
    count(post, 'forum').into('atbb_forum_agg', 'postCount'),
  ],
})
