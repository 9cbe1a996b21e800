/** What must hold of every listed plugin, and cannot be told from its declaration. */
import { expect, test } from 'vitest'
import { CollectionSet } from './collection-set.ts'
import { collections } from './collections.ts'
import type { Collection } from './define.ts'
import type { Entry } from './record.ts'
import { SampleMaker, type Place } from './testing/sample-records.ts'

const TIME = '2026-06-01T00:00:00.000Z'
const DID = `did:plc:${'a'.repeat(24)}`
const OTHER = `did:plc:${'b'.repeat(24)}`

function entryOf({ nsid }: Collection, { did, rkey }: Place, record: object): Entry {
  const uri = `at://${did}/${nsid}/${rkey}`
  return { uri, cid: 'bafy', did, rkey, rev: '3', live: true, record, createdAt: TIME, indexedAt: TIME, sortAt: TIME }
}

const samples = new SampleMaker(new CollectionSet(collections), entryOf)

test.each(collections.filter(({ unique }) => unique.length > 0).map((plugin) => [plugin.nsid, plugin] as const))(
  'a unique key names the record’s own account, so that no two batches write the same one: %s',
  (_, plugin) => {
    const place = { did: DID, other: OTHER, rkey: samples.fixedKey(plugin) ?? '3kaaaaaaaaa2a' }
    const [row] = plugin.rows(entryOf(plugin, place, samples.valid(plugin, place, 'unique')))
    const key = plugin.unique.map((column) => String(row!.values[column]))
    expect(key.filter((value) => value === DID || value.startsWith(`at://${DID}/`))).not.toEqual([])
  },
)
