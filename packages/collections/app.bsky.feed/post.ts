import { didOfUri } from '@sluice/events/stream-event.ts'
import { collection, count, table } from '../define.ts'
import { ABOVE_POSTS, DERIVABLE_POSTS, derivePosts, factOfPost } from '../threads/posts.ts'
import { affectedByPosts } from '../threads/affected.ts'
import { refuseUnreadable } from '../unreadable-names.ts'
import { feedItem } from './feed-item.ts'
import { embedded, embedRows, embedTables, linked, quoted } from './post-embeds.ts'
import type { Post } from './post-record.ts'

const post = table('post', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  text: 'text',
  replyRoot: 'text?',
  replyRootCid: 'text?',
  replyParent: 'text?',
  replyParentCid: 'text?',
  createdAt: 'text',
  indexedAt: 'text',
  langs: 'jsonb?',
  tags: 'jsonb?',
  invalidReplyRoot: 'boolean?',
  violatesThreadGate: 'boolean?',
  violatesEmbeddingRules: 'boolean?',
  hasThreadGate: 'boolean?',
  hasPostGate: 'boolean?',
})

const quote = table('quote', {
  uri: 'text',
  cid: 'text',
  subject: 'text',
  subjectCid: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

/**
 * Replies by the author of a thread's root. The AppView reads the author's own line of replies from this table. A
 * deleted reply keeps its row.
 */
const opThreadReply = table(
  'op_thread_reply',
  { rootUri: 'text', parentUri: 'text', uri: 'text' },
  { outlives: { deletedAt: 'deletedAt', key: ['rootUri', 'uri'] } },
)

/**
 * Replies that were judged by the rules of a thread gate (follows, lists, mentions), each with the time by which it was
 * judged. Written by `derive`.
 */
const gatedReply = table('gated_reply', { uri: 'text', creator: 'text', owner: 'text', at: 'text' })

export default collection<Post>('app.bsky.feed.post', {
  tables: [post, feedItem, quote, opThreadReply, gatedReply, ...embedTables],
  refuses: ({ record: { reply, embed } }) =>
    refuseUnreadable(reply?.root.uri, reply?.parent.uri, embedded(embed)?.uri, ...linked(embed)),
  rows: ({ uri, cid, did, record, createdAt, indexedAt, sortAt }) => {
    const { reply, embed, langs, tags, text } = record
    const quotedPost = quoted(embed)
    return [
      post.row({
        uri,
        cid,
        creator: did,
        text,
        replyRoot: reply?.root.uri ?? null,
        replyRootCid: reply?.root.cid ?? null,
        replyParent: reply?.parent.uri ?? null,
        replyParentCid: reply?.parent.cid ?? null,
        createdAt,
        indexedAt,
        langs: langs?.length ? langs : null,
        tags: tags?.length ? tags : null,
        invalidReplyRoot: null,
        violatesThreadGate: null,
        violatesEmbeddingRules: null,
        hasThreadGate: null,
        hasPostGate: null,
      }),
      feedItem.row({ uri, cid, type: 'post', postUri: uri, originatorDid: did, sortAt }),
      ...(quotedPost
        ? [quote.row({ uri, cid, subject: quotedPost.uri, subjectCid: quotedPost.cid, createdAt, indexedAt })]
        : []),
      ...(reply && didOfUri(reply.root.uri) === did
        ? [opThreadReply.row({ rootUri: reply.root.uri, parentUri: reply.parent.uri, uri })]
        : []),
      ...embedRows(uri, embed),
    ]
  },
  counters: [
    count(post, 'creator').into('profile_agg', 'postsCount', 'did'),
    count(post, 'replyParent').unless('violatesThreadGate').into('post_agg', 'replyCount'),
    count(quote, 'subject').into('post_agg', 'quoteCount'),
  ],
  derived: ['invalidReplyRoot', 'violatesThreadGate', 'violatesEmbeddingRules', 'hasThreadGate', 'hasPostGate'],
  passedOn: ['invalidReplyRoot'],
  derive: derivePosts,
  derivable: DERIVABLE_POSTS,
  hangsFrom: ABOVE_POSTS,
  remembers: factOfPost,
  affects: affectedByPosts,
})
