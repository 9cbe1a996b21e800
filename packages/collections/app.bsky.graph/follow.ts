import { collection, collectionOfUri, count, notify, table, type StrongRef } from '../define.ts'
import type { Entry } from '../record.ts'
import { followKey } from '../threads/gates.ts'
import { affectedByFollows, affectedByFollowsInParts } from '../threads/relations.ts'
import { relationFact } from '../threads/when.ts'
import { refuseUnreadable } from '../unreadable-names.ts'

interface Follow {
  subject: string
  via?: StrongRef
}

const follow = table('follow', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  subjectDid: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<Follow>('app.bsky.graph.follow', {
  tables: [follow],
  // The followed account's notifications show the starter pack. The AppView does not read `via` when it names any other
  // kind of record.
  refuses: ({ record: { via } }) =>
    refuseUnreadable(via && collectionOfUri(via.uri) === 'app.bsky.graph.starterpack' ? via.uri : undefined),
  rows: ({ uri, cid, did, record: { subject }, createdAt, indexedAt }) => [
    follow.row({ uri, cid, creator: did, subjectDid: subject, createdAt, indexedAt }),
  ],
  unique: ['creator', 'subjectDid'],
  counters: [
    count(follow, 'subjectDid').into('profile_agg', 'followersCount', 'did'),
    count(follow, 'creator').into('profile_agg', 'followsCount', 'did'),
  ],
  notifications: ({ record: { subject } }) => [notify(subject, 'follow')],
  // As in the official AppView: an account that follows itself is notified.
  notifiesSelf: true,
  remembers: (entry: Entry<Follow>) => ({ key: followKey(entry.did, entry.record.subject), ...relationFact(entry) }),
  affects: affectedByFollows,
  affectsInParts: affectedByFollowsInParts,
})
