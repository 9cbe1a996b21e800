import { blobCid, type BlobRef } from '../blobs.ts'
import { aggregateRow, collection, table } from '../define.ts'

interface FeedGenerator {
  did: string
  displayName: string
  description?: string
  descriptionFacets?: unknown[]
  avatar?: BlobRef
}

const feedGenerator = table('feed_generator', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  feedDid: 'text',
  displayName: 'text?',
  description: 'text?',
  descriptionFacets: 'text?',
  avatarCid: 'text?',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<FeedGenerator>('app.bsky.feed.generator', {
  tables: [feedGenerator],
  rows: ({ uri, cid, did, record, createdAt, indexedAt }) => [
    feedGenerator.row({
      uri,
      cid,
      creator: did,
      feedDid: record.did,
      displayName: record.displayName,
      description: record.description ?? null,
      descriptionFacets: record.descriptionFacets ? JSON.stringify(record.descriptionFacets) : null,
      avatarCid: blobCid(record.avatar),
      createdAt,
      indexedAt,
    }),
  ],
  // The AppView counts an account's feed generators only if the account has a row in `profile_agg`.
  aggregateRows: [aggregateRow(feedGenerator, 'creator', { table: 'profile_agg', key: 'did' })],
})
