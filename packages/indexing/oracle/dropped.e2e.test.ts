/**
 * C7: what the official indexer drops because its own statement fails, ours keeps; what it cannot make sense of,
 * neither has; and all the rest is the same.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from '../apply-batch.ts'
import { KnownActors } from '../own.ts'
import { explain } from './allowed.ts'
import { compare, describeDifference } from './compare.ts'
import { Comparison } from './comparison.ts'

test('a like in a muted thread, a post with a NUL and one with pictures that has none are dropped there and kept here', async ({
  emptyDatabase,
  database,
  redisUrl,
}) => {
  await using comparison = await Comparison.start({ seed: 1, officialUrl: emptyDatabase, ourUrl: database, redisUrl })
  const { pds } = comparison.network
  const [alice, bob] = [await pds.createAccount('alice-1'), await pds.createAccount('bob-1')]
  const post = await alice.agent.post({ text: 'not so loud' })
  await comparison.muteThread(alice.did, post.uri)
  const like = await bob.agent.like(post.uri, post.cid)
  const repost = await bob.agent.repost(post.uri, post.cid)
  const nul = await bob.agent.post({ text: 'a\0b' })
  const images = { $type: 'app.bsky.embed.images' as const, images: [] }
  const bare = await bob.agent.post({ text: 'no pictures', embed: images })
  const beside = await bob.agent.post({
    text: 'no pictures, and a post',
    embed: { $type: 'app.bsky.embed.recordWithMedia', record: { record: post }, media: images },
  })
  const { failed, left, stages } = await comparison.finish([])

  expect(failed.map(({ uri, reason }) => ({ uri, reason }))).toEqual([
    { uri: like.uri, reason: 'empty insert' },
    { uri: repost.uri, reason: 'empty insert' },
    { uri: nul.uri, reason: 'nul' },
    { uri: bare.uri, reason: 'empty insert' },
    { uri: beside.uri, reason: 'empty insert' },
  ])
  const last = stages.at(-1)!
  expect(explain(compare(last.official, last.ours), last).unexplained.map(describeDifference)).toEqual([])

  const index = { db: comparison.ours, collections: new CollectionSet(collections), actors: new KnownActors() }
  const applied = await applyBatch(index, left)
  expect(applied).toMatchObject({ inserted: 5, refused: [] })
  const { rows } = await comparison.ours.query(
    `select (select count(*)::int from "like" where uri = $1) as likes, (select count(*)::int from repost where uri = $2) as reposts,
       (select text from post where uri = $3) as text, (select json::jsonb is null from record where uri = $1) as unreadable,
       (select array_agg(text order by uri) from post where uri in ($4, $5)) as bare, (select array_agg(uri) from quote) as quotes,
       (select array_agg(reason) from notification) as told`,
    [like.uri, repost.uri, nul.uri, bare.uri, beside.uri],
  )
  expect(rows).toEqual([
    {
      likes: 1,
      reposts: 1,
      text: 'ab',
      unreadable: false,
      bare: ['no pictures', 'no pictures, and a post'],
      quotes: [beside.uri],
      told: null,
    },
  ])
})

test('a reply that names its thread by handle is refused by both', async ({ emptyDatabase, database, redisUrl }) => {
  await using comparison = await Comparison.start({ seed: 1, officialUrl: emptyDatabase, ourUrl: database, redisUrl })
  const alice = await comparison.network.pds.createAccount('alice-1')
  const parent = await alice.agent.post({ text: 'root' })
  const root = { ...parent, uri: parent.uri.replace(alice.did, alice.handle) }
  const reply = await alice.agent.post({ text: 'a reply', reply: { root, parent } })
  const { failed, refused, left, stages } = await comparison.finish([])
  expect(failed).toMatchObject([{ uri: reply.uri, reason: 'named by handle' }])
  expect(refused).toMatchObject([{ uri: reply.uri, reason: 'invalid-record' }])
  expect(left).toEqual([])
  const last = stages.at(-1)!
  expect(explain(compare(last.official, last.ours), last).unexplained.map(describeDifference)).toEqual([])
})
