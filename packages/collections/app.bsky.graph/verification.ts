import { collection, notify, table } from '../define.ts'

interface Verification {
  subject: string
  handle: string
  displayName: string
}

const verification = table('verification', {
  uri: 'text',
  cid: 'text',
  rkey: 'text',
  creator: 'text',
  subject: 'text',
  handle: 'text',
  displayName: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<Verification>('app.bsky.graph.verification', {
  tables: [verification],
  rows: ({ uri, cid, did, rkey, record: { subject, handle, displayName }, createdAt, indexedAt }) => [
    verification.row({ uri, cid, rkey, creator: did, subject, handle, displayName, createdAt, indexedAt }),
  ],
  unique: ['subject', 'creator'],
  notifications: ({ record: { subject } }) => [notify(subject, 'verified')],
  deletionNotifications: ({ record: { subject } }) => [notify(subject, 'unverified')],
  notifiesSelf: true,
  // Tells which of several deleted versions was the last one, whatever came first: its subject hears of the end.
  remembers: ({ uri, rev }) => ({ key: `verification ${uri}`, since: rev, fact: true }),
})
