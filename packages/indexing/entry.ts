/** A plugin's view of a record (`Entry`), made from an event or from the `record` table. */
import type { Transaction } from '@sluice/database/transaction.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection } from '@sluice/collections/define.ts'
import type { Entry } from '@sluice/collections/record.ts'
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

/** Makes the plugin's view. U+0000 is removed from it, and so from all columns; the stored JSON keeps it. */
export function makeEntry({ uri, did, rkey, cid, rev, live, record, json, indexedAt }: RecordSource): Entry {
  // PostgreSQL text cannot hold U+0000. The stored JSON holds it as an escape, so the stored record still matches its
  // CID.
  const clean = json.includes('\\u0000') ? withoutNul(record) : record
  const claimed = (clean as { createdAt?: unknown }).createdAt
  const createdAt = typeof claimed === 'string' ? normalizeDatetime(claimed) : indexedAt
  const sortAt = createdAt < indexedAt ? createdAt : indexedAt
  return { uri, cid, did, rkey, rev, live, record: clean, createdAt, indexedAt, sortAt }
}

/**
 * How many bytes of stored JSON are loaded at a time; one more record may go beyond that. An event that names a record
 * is small, but the record may have megabytes, and each byte of it takes up to 14 bytes in memory. 100 deletions of
 * posts with a million empty arrays each, 250 bytes an entry, took 4 GB.
 */
export const LOADED_BYTES = 4_000_000

export interface Loaded {
  entry: Entry
  plugin: Collection
}

/**
 * Loads the entries of records that are in the index, with their plugins, as many as `LOADED_BYTES` allow. Records of
 * collections without a plugin are left out. `rest` holds the URIs for which there was no room, in parts that fit.
 */
export async function loadEntries(
  tx: Pick<Transaction, 'query'>,
  collections: CollectionSet,
  uris: readonly string[],
): Promise<{ entries: Loaded[]; rest: string[][] }> {
  const { stored, rest } = await loadStored(tx, uris)
  return { entries: stored.flatMap((record) => parse(collections, record)), rest }
}

/**
 * Calls `use` for each entry. Entries are loaded in parts and dropped after their turn, so the result of `use` should
 * not keep a reference to the record.
 */
export async function mapEntries<T>(
  tx: Pick<Transaction, 'query'>,
  collections: CollectionSet,
  uris: readonly string[],
  use: (loaded: Loaded) => T,
): Promise<T[]> {
  const made: T[] = []
  for await (const loaded of eachEntry(tx, collections, uris)) made.push(use(loaded))
  return made
}

/** Yields the entries one by one, loaded in parts of `LOADED_BYTES`. None is kept after its turn. */
export async function* eachEntry(
  tx: Pick<Transaction, 'query'>,
  collections: CollectionSet,
  uris: readonly string[],
): AsyncGenerator<Loaded> {
  const parts: (readonly string[])[] = uris.length > 0 ? [uris] : []
  for (const part of parts) {
    const { stored, rest } = await loadStored(tx, part)
    parts.push(...rest)
    for (const record of stored) yield* parse(collections, record)
  }
}

interface Stored {
  uri: string
  cid: string
  json: string
  rev: string
  live: boolean
  indexedAt: string
}

async function loadStored(
  tx: Pick<Transaction, 'query'>,
  uris: readonly string[],
): Promise<{ stored: Stored[]; rest: string[][] }> {
  const { rows } = await tx.query<Omit<Stored, 'json'> & { json: string | null; bytes: number }>(LOAD, [
    uris,
    LOADED_BYTES,
  ])
  const stored: Stored[] = []
  const rest: string[][] = []
  let room = 0
  for (const { json, bytes, ...row } of rows) {
    if (json !== null) stored.push({ ...row, json })
    else if (room > 0) rest.at(-1)!.push(row.uri)
    else {
      rest.push([row.uri])
      room = LOADED_BYTES
    }
    if (json === null) room -= bytes
  }
  return { stored, rest }
}

function parse(collections: CollectionSet, { uri, json, ...stored }: Stored): Loaded[] {
  const [, , did, nsid, rkey] = uri.split('/') as [string, string, string, string, string]
  const plugin = collections.plugin(nsid)
  if (!plugin) return []
  const record: unknown = JSON.parse(json)
  return [{ entry: makeEntry({ ...stored, uri, did, rkey, record, json }), plugin }]
}

/**
 * A row that another indexer wrote has no rev, so it does not tell when the record was written. `octet_length` of a
 * large value does not read the value itself. The running sum follows the order in which rows arrive, so no sort is
 * needed.
 */
const LOAD = {
  name: 'load-records',
  text: `
    select uri, cid, bytes, case when sum(bytes) over (rows unbounded preceding) - bytes < $2 then json end as json, rev, live, "indexedAt"
    from (
      select uri, cid, json, octet_length(json) as bytes, coalesce(rev, '') as rev, rev is not null and "fromExport" is not true as live, "indexedAt"
      from record where uri = any($1::text[])
    ) stored`,
}
