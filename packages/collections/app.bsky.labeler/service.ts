import { collection, table } from '../define.ts'

const labeler = table('labeler', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection('app.bsky.labeler.service', {
  tables: [labeler],
  rows: ({ uri, cid, did, rkey, createdAt, indexedAt }) =>
    rkey === 'self' ? [labeler.row({ uri, cid, creator: did, createdAt, indexedAt })] : [],
})
