/** A plugin's view of a record: made from an event, or from the `record` table. */
import type { Transaction } from '@sluice/database/transaction.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection, Entry } from '@sluice/collections/define.ts'
import { normalizeDatetime, withoutNul } from '@sluice/collections/values.ts'

export interface RecordSource {
  uri: string
  did: string
  rkey: string
  cid: string
  rev: string
  record: unknown
  json: string
  indexedAt: string
  live: boolean
}

export function makeEntry({ uri, did, rkey, cid, rev, live, record, json, indexedAt }: RecordSource): Entry {
  // Postgres text cannot hold NUL. The stored JSON keeps it (as an escape), so the record still has its cid; only columns lose it.
  const clean = json.includes('\\u0000') ? withoutNul(record) : record
  const claimed = (clean as { createdAt?: unknown }).createdAt
  const createdAt = typeof claimed === 'string' ? normalizeDatetime(claimed) : indexedAt
  const sortAt = createdAt < indexedAt ? createdAt : indexedAt
  return { uri, cid, did, rkey, rev, live, record: clean, createdAt, indexedAt, sortAt }
}

/** The entries of records that are in the index, with their plugins; records of collections without a plugin are left out. */
export async function loadEntries(
  tx: Pick<Transaction, 'query'>,
  collections: CollectionSet,
  uris: readonly string[],
): Promise<{ entry: Entry; plugin: Collection }[]> {
  const { rows } = await tx.query<{
    uri: string
    cid: string
    json: string
    rev: string
    live: boolean
    indexedAt: string
  }>({ name: 'load-records', text: LOAD }, [uris])
  return rows.flatMap(({ uri, cid, json, rev, live, indexedAt }) => {
    const [, , did, nsid, rkey] = uri.split('/') as [string, string, string, string, string]
    const plugin = collections.plugin(nsid)
    if (!plugin) return []
    const record: unknown = JSON.parse(json)
    const entry = makeEntry({ uri, did, rkey, cid, rev, live, record, json, indexedAt })
    return [{ entry, plugin }]
  })
}

/** A row that another indexer wrote has no rev, and tells nothing of when it was written. */
const LOAD = `
  select uri, cid, json, coalesce(rev, '') as rev, rev is not null and "fromExport" is not true as live, "indexedAt"
  from record where uri = any($1::text[])`
