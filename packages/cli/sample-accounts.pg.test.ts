/**
 * Random accounts are found by key: different ones, as many as are wanted or as there are, wherever in the index they
 * are.
 */
import { base32 } from '@sluice/atproto/cid.ts'
import { random } from '@sluice/atproto/testing/random.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { expect, test as plain } from '@sluice/sandbox/fixtures.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { isInShard } from '@sluice/streams/spread.ts'
import { sampleAccounts } from './sample-accounts.ts'

const ALL = { index: 0, of: 1 }
const WEB = ['did:web:alice.example', 'did:web:zoe.example']

const test = plain.extend('db', async ({ database }, { onCleanup }) => {
  const db = new DatabasePool({ url: database, schema: SCHEMA, size: 1, role: 'test', byKey: true })
  onCleanup(() => db.close())
  return db
})

/** So many accounts, and some `did:web`. */
async function fill(db: DatabasePool, accounts: number): Promise<string[]> {
  const dids = Array.from({ length: accounts }, (_, i) => testDid(`account ${i}`))
  await db.query(`insert into actor_sync (did, "commitCid") select did, '' from unnest($1::text[]) as did (did)`, [
    [...dids, ...WEB],
  ])
  return dids
}

function keysBy(seed: string): () => string {
  const draw = random(seed)
  return () => `did:plc:${base32(draw.bytes(15)).slice(1)}`
}

test('of a large index each sample is another, and no part of the index is left out', async ({ db }) => {
  const dids = await fill(db, 2_000)
  const times = new Map<string, number>()
  for (let i = 0; i < 50; i++) {
    const sample = await sampleAccounts(db, { count: 200, shard: ALL, key: keysBy(`sample ${i}`) })
    expect(new Set(sample).size).toBe(200)
    for (const did of sample) times.set(did, (times.get(did) ?? 0) + 1)
  }
  expect([...times.keys()].filter((did) => !dids.includes(did))).toEqual([])
  // Each account is drawn five times on average, more or less often by the gap before it: one of six is not.
  expect(times.size).toBeGreaterThan(0.8 * dids.length)
  expect(Math.max(...times.values())).toBeLessThan(50)
  const [one, other] = [
    await sampleAccounts(db, { count: 9, shard: ALL }),
    await sampleAccounts(db, { count: 9, shard: ALL }),
  ]
  expect(one.toSorted()).not.toEqual(other.toSorted())
})

test('of an index of fewer accounts than are wanted all are taken, once', async ({ db }) => {
  expect(await sampleAccounts(db, { count: 10, shard: ALL })).toEqual([])
  const dids = await fill(db, 30)
  for (const count of [30, 31, 1_000]) {
    const sample = await sampleAccounts(db, { count, shard: ALL })
    expect(sample.toSorted()).toEqual(dids.toSorted())
  }
})

test('with shards the accounts are those of one', async ({ db }) => {
  const dids = await fill(db, 300)
  const shard = { index: 1, of: 3 }
  const own = dids.filter((did) => isInShard(did, shard)).toSorted()
  expect((await sampleAccounts(db, { count: 1_000, shard })).toSorted()).toEqual(own)
  const some = await sampleAccounts(db, { count: 20, shard })
  expect([some.length, some.filter((did) => !own.includes(did))]).toEqual([20, []])
})
