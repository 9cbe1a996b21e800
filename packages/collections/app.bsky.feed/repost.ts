import { didOfUri } from '@sluice/events/stream-event.ts'
import { collection, count, notify, table, type StrongRef } from '../define.ts'
import { feedItem } from './feed-item.ts'
import { refuseUnreadable } from '../unreadable-names.ts'

interface Repost {
  subject: StrongRef
  via?: StrongRef
}

const repost = table('repost', {
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

export default collection<Repost>('app.bsky.feed.repost', {
  tables: [repost, feedItem],
  refuses: ({ record: { subject } }) => refuseUnreadable(subject.uri),
  rows: ({ uri, cid, did, record: { subject, via }, createdAt, indexedAt, sortAt }) => [
    repost.row({
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
    feedItem.row({ uri, cid, type: 'repost', postUri: subject.uri, originatorDid: did, sortAt }),
  ],
  unique: ['creator', 'subject'],
  counters: [count(repost, 'subject').into('post_agg', 'repostCount')],
  // An account that reposts its own post notifies nobody, not even the account whose repost (`via`) led it there.
  notifications: ({ did, record: { subject, via } }) =>
    didOfUri(subject.uri) === did
      ? []
      : [
          notify(didOfUri(subject.uri), 'repost', subject.uri),
          ...(via ? [notify(didOfUri(via.uri), 'repost-via-repost', via.uri)] : []),
        ],
})
