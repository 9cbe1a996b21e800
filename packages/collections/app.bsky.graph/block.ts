import { collection, table } from '../define.ts'

interface Block {
  subject: string
}

const block = table('actor_block', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  subjectDid: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<Block>('app.bsky.graph.block', {
  tables: [block],
  rows: ({ uri, cid, did, record: { subject }, createdAt, indexedAt }) => [
    block.row({ uri, cid, creator: did, subjectDid: subject, createdAt, indexedAt }),
  ],
  unique: ['creator', 'subjectDid'],
})
