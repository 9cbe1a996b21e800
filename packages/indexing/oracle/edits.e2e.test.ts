/**
 * C7: what becomes of records that say whom or what an account has to do with, when an edit makes them say something
 * else.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import type { Account } from '@sluice/sandbox/pds.ts'
import { applyBatch } from '../apply-batch.ts'
import { KnownActors } from '../own.ts'
import { explain } from './allowed.ts'
import { compare, describeDifference } from './compare.ts'
import { Comparison, type Compared } from './comparison.ts'

const VERIFICATION = 'app.bsky.graph.verification'

/** Writes a record as it is to be, new or not; returns its URI. */
async function put({ agent, did: repo }: Account, collection: string, rkey: string, record: object): Promise<string> {
  const full = { $type: collection, createdAt: '2026-06-01T00:00:00.000Z', ...record }
  const { data } = await agent.com.atproto.repo.putRecord({ repo, collection, rkey, record: full, validate: false })
  return data.uri
}

const verified = ({ did }: Account): object => ({ subject: did, handle: 'someone.test', displayName: 'Someone' })

/** What explains the differences; nothing may be left over. */
function explained({ stages }: Compared): string[] {
  const last = stages.at(-1)!
  const { unexplained, used } = explain(compare(last.official, last.ours), last)
  expect(unexplained.map(describeDifference)).toEqual([])
  return [...used.keys()].sort()
}

test('a verification that is edited tells whom it verifies now, and not whom it verified; a waiting one takes over', async ({
  emptyDatabase,
  database,
  redisUrl,
}) => {
  await using comparison = await Comparison.start({ seed: 1, officialUrl: emptyDatabase, ourUrl: database, redisUrl })
  const { pds } = comparison.network
  const [verifier, one, two] = await Promise.all(
    ['verifier-1', 'one-1', 'two-1'].map((name) => pds.createAccount(name)),
  )
  const edited = await put(verifier!, VERIFICATION, '3mn6tfhshgx2a', verified(one!))
  const waiting = await put(verifier!, VERIFICATION, '3mn6tfhshgx2b', verified(one!))
  await put(verifier!, VERIFICATION, '3mn6tfhshgx2a', verified(two!))
  expect(explained(await comparison.finish([]))).toEqual(
    ['a promoted duplicate', 'an edited verification', 'the duplicates of an edited record', 'the notification of a promoted duplicate'], // prettier-ignore
  )
  const { rows } = await comparison.ours.query(
    `select v.uri, v.subject, n.reason from verification v join notification n on n."recordUri" = v.uri and n.did = v.subject order by uri`,
  )
  expect(rows).toEqual([
    { uri: edited, subject: two!.did, reason: 'verified' },
    { uri: waiting, subject: one!.did, reason: 'verified' },
  ])
})

test('an edit after which a like says what another one says is dropped there, and is a duplicate here', async ({
  emptyDatabase,
  database,
  redisUrl,
}) => {
  await using comparison = await Comparison.start({ seed: 1, officialUrl: emptyDatabase, ourUrl: database, redisUrl })
  const { pds } = comparison.network
  const [alice, bob] = await Promise.all(['alice-1', 'bob-1'].map((name) => pds.createAccount(name)))
  const [first, second] = [await alice!.agent.post({ text: 'first' }), await alice!.agent.post({ text: 'second' })]
  const ofFirst = await put(bob!, 'app.bsky.feed.like', '3mn6tfhshgx2a', { subject: first })
  const ofSecond = await put(bob!, 'app.bsky.feed.like', '3mn6tfhshgx2b', { subject: second })
  await put(bob!, 'app.bsky.feed.like', '3mn6tfhshgx2b', { subject: first })
  const compared = await comparison.finish([])
  expect(compared.failed).toMatchObject([{ uri: ofSecond, reason: 'edited into a duplicate' }])
  expect(explained(compared)).toEqual([])
  const [theirs] = compared.stages.at(-1)!.official.at('like', ofSecond)
  expect(theirs).toMatchObject({ subject: second.uri })

  const index = { db: comparison.ours, collections: new CollectionSet(collections), actors: new KnownActors() }
  await applyBatch(index, compared.left)
  const { rows } = await comparison.ours.query(
    `select (select jsonb_agg(uri) from "like") as likes, (select jsonb_agg(d) from (select uri, "duplicateOf" from duplicate_record) d) as waiting`,
  )
  expect(rows).toEqual([{ likes: [ofFirst], waiting: [{ uri: ofSecond, duplicateOf: ofFirst }] }])
})

test('a reply that an edit moves within its thread has the place that its newest version names', async ({
  emptyDatabase,
  database,
  redisUrl,
}) => {
  await using comparison = await Comparison.start({ seed: 1, officialUrl: emptyDatabase, ourUrl: database, redisUrl })
  const { pds } = comparison.network
  const [alice, bob, carol] = await Promise.all(['alice-1', 'bob-1', 'carol-1'].map((name) => pds.createAccount(name)))
  const root = await alice!.agent.post({ text: 'root' })
  const answer = async ({ agent }: Account, parent: typeof root): Promise<typeof root> =>
    agent.post({ text: 'a reply', reply: { root, parent } })
  const above = await answer(carol!, root)
  const moved = await answer(alice!, root)
  await answer(bob!, moved)
  const reply = { root, parent: above }
  await put(alice!, 'app.bsky.feed.post', moved.uri.split('/').at(-1)!, { text: 'moved', reply })
  expect(explained(await comparison.finish([]))).toEqual(
    ["a deleted reply's place in its author's thread", "an edited reply's place in its author's thread"], // prettier-ignore
  )
  const { rows } = await comparison.ours.query(`select "parentUri" as parent, "deletedAt" as gone from op_thread_reply`)
  expect(rows).toEqual([{ parent: above.uri, gone: null }])
})
