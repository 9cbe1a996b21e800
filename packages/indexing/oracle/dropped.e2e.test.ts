/** C7: what the official indexer drops because its own statement fails, ours keeps; and all the rest is the same. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from '../apply-batch.ts'
import { KnownActors } from '../own.ts'
import { judge } from './allowed.ts'
import { compare, describeDifference } from './compare.ts'
import { Comparison } from './comparison.ts'

test('a like in a muted thread and a post with a NUL are dropped there and kept here', async ({
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
  const { failed, left, stages } = await comparison.finish([])

  expect(failed.map(({ uri, reason }) => ({ uri, reason }))).toEqual([
    { uri: like.uri, reason: 'empty insert' },
    { uri: repost.uri, reason: 'empty insert' },
    { uri: nul.uri, reason: 'nul' },
  ])
  const last = stages.at(-1)!
  expect(judge(compare(last.official, last.ours), last).unexplained.map(describeDifference)).toEqual([])

  const index = { db: comparison.ours, collections: new CollectionSet(collections), actors: new KnownActors() }
  const applied = await applyBatch(index, left)
  expect(applied).toMatchObject({ inserted: 3, refused: [] })
  const { rows } = await comparison.ours.query(
    `select (select count(*)::int from "like" where uri = $1) as likes, (select count(*)::int from repost where uri = $2) as reposts,
       (select text from post where uri = $3) as text, (select json::jsonb is null from record where uri = $1) as unreadable,
       (select count(*)::int from notification) as notifications`,
    [like.uri, repost.uri, nul.uri],
  )
  expect(rows).toEqual([{ likes: 1, reposts: 1, text: 'ab', unreadable: false, notifications: 0 }])
})
