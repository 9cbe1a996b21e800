import { aggregateRow, blobCid, collection, table, type BlobRef } from '../define.ts'

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
  // The AppView counts the account's own beside this row.
  aggregateRows: [aggregateRow(list, 'creator', { table: 'profile_agg', key: 'did' })],
})
