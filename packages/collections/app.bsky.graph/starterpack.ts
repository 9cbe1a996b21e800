import { aggregateRow, collection, table } from '../define.ts'
import { refuseUnreadable } from '../unreadable-names.ts'

interface StarterPack {
  name: string
  list: string
  feeds?: { uri: string }[]
}

const starterPack = table('starter_pack', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  name: 'text?',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<StarterPack>('app.bsky.graph.starterpack', {
  tables: [starterPack],
  refuses: ({ record: { list, feeds = [] } }) => refuseUnreadable(list, ...feeds.map(({ uri }) => uri)),
  rows: ({ uri, cid, did, record: { name }, createdAt, indexedAt }) => [
    starterPack.row({ uri, cid, creator: did, name, createdAt, indexedAt }),
  ],
  // The AppView counts an account's starter packs only if the account has a row in `profile_agg`.
  aggregateRows: [aggregateRow(starterPack, 'creator', { table: 'profile_agg', key: 'did' })],
})
