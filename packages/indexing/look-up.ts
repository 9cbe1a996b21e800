/** What the index knows of the paths that a batch names, and what a resync's export says is gone. */
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Known } from './decide.ts'
import type { Range } from './prepare.ts'
import type { Version } from './version.ts'

/** Rows and tombstones of these URIs. Sorted probes: neighbours are on the same index page. */
export async function lookUp(tx: Transaction, uris: readonly string[]): Promise<Map<string, Known>> {
  if (uris.length === 0) return new Map()
  const { rows } = await tx.query<{ uri: string; rev: string | null; cid: string | null; at: string }>(KNOWN, [uris])
  const known = new Map<string, Known>()
  for (const { uri, rev, cid, at } of rows) {
    if (cid !== null) known.set(uri, { state: 'living', rev, cid })
    else if (!known.has(uri)) known.set(uri, { state: 'deleted', rev: rev!, at })
  }
  return known
}

/** In one statement: PostgreSQL takes a third of the time for reading the URIs. */
const KNOWN = {
  name: 'known',
  text: `
    select uri, rev, cid, null as at from record where uri = any($1::text[])
    union all select uri, rev, null, "deletedAt" from tombstone where uri = any($1::text[])`,
}

/**
 * The records that we hold inside the ranges, are no keys of them, and are not newer than their export: as deletions at its rev.
 * Whether they are still so when the rest of the batch is counted in, the fold decides.
 */
export async function findVanished(tx: Transaction, ranges: readonly Range[]): Promise<Version[]> {
  const found = await Promise.all(
    ranges.map(async (range) => {
      const base = `at://${range.did}/`
      // '0' follows '/' in byte order: the end of all paths of the repository.
      const to = range.to === '' ? `at://${range.did}0` : base + range.to
      const { rows } = await tx.query<{ uri: string }>(IN_RANGE, [range.did, base + range.from, to, range.rev])
      return rows.flatMap(({ uri }) => (range.keys.has(uri.slice(base.length)) ? [] : [vanished(range, uri)]))
    }),
  )
  return found.flat()
}

const IN_RANGE = {
  name: 'records-in-range',
  text: `
    select uri from record
    where did = $1 and uri collate "C" >= $2 collate "C" and uri collate "C" < $3 collate "C" and (rev is null or rev <= $4)`,
}

function vanished({ did, rev, time }: Range, uri: string): Version {
  return { uri, did, collection: uri.split('/', 4)[3]!, rev, time, fromExport: true }
}
