import { blobCid, type BlobRef } from '../blobs.ts'
import { aggregateRow, collection, table } from '../define.ts'

interface List {
  name: string
  purpose: string
  description?: string
  descriptionFacets?: unknown[]
  avatar?: BlobRef
}

const list = table('list', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  name: 'text',
  purpose: 'text',
  description: 'text?',
  descriptionFacets: 'text?',
  avatarCid: 'text?',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<List>('app.bsky.graph.list', {
  tables: [list],
  rows: ({ uri, cid, did, record, createdAt, indexedAt }) => [
    list.row({
      uri,
      cid,
      creator: did,
      name: record.name,
      purpose: record.purpose,
      description: record.description ?? null,
      descriptionFacets: record.descriptionFacets ? JSON.stringify(record.descriptionFacets) : null,
      avatarCid: blobCid(record.avatar),
      createdAt,
      indexedAt,
    }),
  ],
  // The AppView counts an account's lists only if the account has a row in `profile_agg`.
  aggregateRows: [aggregateRow(list, 'creator', { table: 'profile_agg', key: 'did' })],
})
