import { didOfUri } from '@sluice/events/stream-event.ts'
import { collection, count, notify, table, type StrongRef } from '../define.ts'
import { refuseUnreadable } from '../unreadable-names.ts'

interface Like {
  subject: StrongRef
  via?: StrongRef
}

const like = table('like', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  subject: 'text',
  subjectCid: 'text',
  via: 'text?',
  viaCid: 'text?',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<Like>('app.bsky.feed.like', {
  tables: [like],
  refuses: ({ record: { subject } }) => refuseUnreadable(subject.uri),
  rows: ({ uri, cid, did, record: { subject, via }, createdAt, indexedAt }) => [
    like.row({
      uri,
      cid,
      creator: did,
      subject: subject.uri,
      subjectCid: subject.cid,
      via: via?.uri ?? null,
      viaCid: via?.cid ?? null,
      createdAt,
      indexedAt,
    }),
  ],
  unique: ['subject', 'creator'],
  counters: [count(like, 'subject').into('post_agg', 'likeCount')],
  // An account that likes its own post notifies nobody, not even the account whose repost (`via`) led it there.
  notifications: ({ did, record: { subject, via } }) =>
    didOfUri(subject.uri) === did
      ? []
      : [
          notify(didOfUri(subject.uri), 'like', subject.uri),
          ...(via ? [notify(didOfUri(via.uri), 'like-via-repost', via.uri)] : []),
        ],
})
