import { collection, table } from '../define.ts'

interface ListBlock {
  subject: string
}

const listBlock = table('list_block', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  subjectUri: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<ListBlock>('app.bsky.graph.listblock', {
  tables: [listBlock],
  rows: ({ uri, cid, did, record: { subject }, createdAt, indexedAt }) => [
    listBlock.row({ uri, cid, creator: did, subjectUri: subject, createdAt, indexedAt }),
  ],
  unique: ['creator', 'subjectUri'],
})
