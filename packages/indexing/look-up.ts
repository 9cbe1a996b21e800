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
 * @param byBytes whether the database sorts text by its bytes: then a range is read from the primary key, else all of the account's records are
 */
export async function findVanished(tx: Transaction, ranges: readonly Range[], byBytes: boolean): Promise<Version[]> {
  const inRange = recordsInRange(byBytes)
  const found = await Promise.all(
    ranges.map(async (range) => {
      const base = `at://${range.did}/`
      // '0' follows '/' in byte order: the end of all paths of the repository.
      const to = range.to === '' ? `at://${range.did}0` : base + range.to
      const { rows } = await tx.query<{ uri: string }>(inRange, [range.did, base + range.from, to, range.rev])
      return rows.flatMap(({ uri }) => (range.keys.has(uri.slice(base.length)) ? [] : [vanished(range, uri)]))
    }),
  )
  return found.flat()
}

function recordsInRange(byBytes: boolean): { name: string; text: string } {
  return {
    name: 'records-in-range',
    text: `select uri from record where ${recordsBetween(byBytes)} and (rev is null or rev <= $4)`,
  }
}

/**
 * The records of the account $1 from $2 on and before $3, in byte order. An index serves its own collation only, so none is named where all text sorts by its bytes; and `did` is hidden
 * from the planner there: an export has hundreds of ranges, and by the account each would read all of its records.
 */
export function recordsBetween(byBytes: boolean): string {
  return byBytes
    ? `did || '' = $1 and uri >= $2 and uri < $3`
    : `did = $1 and uri collate "C" >= $2 collate "C" and uri collate "C" < $3 collate "C"`
}

function vanished({ did, rev, time }: Range, uri: string): Version {
  return { uri, did, collection: uri.split('/', 4)[3]!, rev, time, fromExport: true }
}
