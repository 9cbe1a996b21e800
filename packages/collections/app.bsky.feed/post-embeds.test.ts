/** V5: a post is indexed whatever content the open unions of its embed have. */
import { expect, test } from 'vitest'
import { CollectionSet } from '../collection-set.ts'
import { collections } from '../collections.ts'
import { embedRows, type Embed } from './post-embeds.ts'

const set = new CollectionSet(collections)
const POST = 'at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3k2aaaaaaaaaa'
const CID = 'bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy'
const quote = { $type: 'app.bsky.embed.record', record: { uri: POST, cid: CID } }

test.each([
  ['a record without a record', { $type: 'app.bsky.embed.record' }],
  ['the same record once more', quote],
  ['a record with media again', { $type: 'app.bsky.embed.recordWithMedia' }],
  ['a kind of tomorrow', { $type: 'app.bsky.embed.hologram' }],
])('V5 beside an embedded record, %s is passed over', (_, media) => {
  const embed = { $type: 'app.bsky.embed.recordWithMedia', record: quote, media }
  const post = { $type: 'app.bsky.feed.post', text: '', createdAt: '2026-01-01T00:00:00.000Z', embed }
  expect(set.validate('app.bsky.feed.post', post)).toBeUndefined()
  const rows = embedRows('at://post', embed as Embed)
  expect(rows.map(({ table, values }) => [table.name, values.embedUri])).toEqual([['post_embed_record', POST]])
})
