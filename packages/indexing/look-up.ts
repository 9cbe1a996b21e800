/** Looks up what the index knows of the paths that a batch names. */
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Deletion, Known } from './decide.ts'

/**
 * Finds the records and tombstones of these URIs. `uris` should be sorted: neighbouring URIs are on the same index
 * page.
 */
export async function lookUp(tx: Transaction, uris: readonly string[]): Promise<Map<string, Known>> {
  if (uris.length === 0) return new Map()
  const { rows } = await tx.query<LookedUp>(KNOWN, [uris])
  const known = new Map<string, Known>()
  const deletions = new Map<string, Deletion>()
  for (const { uri, rev, cid, at, exported } of rows) {
    if (cid !== null) known.set(uri, { state: 'living', rev, cid, ...(exported === true && { exported }) })
    else deletions.set(uri, { rev: rev!, at })
  }
  for (const [uri, deletion] of deletions) {
    const living = known.get(uri)
    known.set(uri, living?.state === 'living' ? { ...living, doubt: deletion } : { state: 'deleted', ...deletion })
  }
  return known
}

interface LookedUp {
  uri: string
  rev: string | null
  /** Null: a tombstone. */
  cid: string | null
  at: string
  exported: boolean | null
}

/** Two selects in one statement, because PostgreSQL spends a third of the time on reading the URIs. */
const KNOWN = {
  name: 'known',
  text: `
    select uri, rev, cid, null as at, "fromExport" as exported from record where uri = any($1::text[])
    union all select uri, rev, null, "deletedAt", null from tombstone where uri = any($1::text[])`,
}
