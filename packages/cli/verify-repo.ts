/**
 * Compares a repository with the index, and repairs differences.
 *
 * There are two comparisons: the export, verified as a whole, with the rows of `record`; and the rows of `record` with
 * the rows that their collections make of them. A record that is newer in the index than the export's head is no
 * difference: the live stream was faster than the export.
 *
 * The repair writes no rows itself. It makes the indexer forget how new its version of each differing record is (clears
 * revs, removes tombstones), and sends the record, or its deletion, as an event at the export's head through the stream
 * of exports. So an event that arrives by the live stream meanwhile wins, as always.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import type { ExportedRecord, RepoExport } from '@sluice/atproto/repo-export.ts'
import { sortsByBytes } from '@sluice/database/collation.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { slices } from '@sluice/runtime/slices.ts'
import { rkeyOfUri, SEQ_BACKFILL, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { recordsBetween, uriInOrder, urisOf } from '@sluice/indexing/ranges.ts'
import { prepare } from '@sluice/indexing/prepare.ts'
import { count } from './output.ts'

const DIFFERENCES = ['missing', 'extra', 'stale', 'without-rows'] as const
export type Difference = (typeof DIFFERENCES)[number]
export type DifferenceCounts = Record<Difference, number>

export interface Differing {
  uri: string
  difference: Difference
}

export interface Comparison {
  did: string
  rev: string
  commit: string
  /** How many records the repository has in collections that are indexed. */
  records: number
  same: number
  /** Records that are newer in the index than in the export. */
  newer: number
  /** Records that are in the repository and rightly not in the index: they do not match their lexicon. */
  refused: number
  differing: Differing[]
}

/** How many records differ in each way. */
export function countDifferences(differing: readonly Differing[]): DifferenceCounts {
  const counts: DifferenceCounts = { missing: 0, extra: 0, stale: 0, 'without-rows': 0 }
  for (const { difference } of differing) counts[difference]++
  return counts
}

/** `1 missing, 0 extra, 0 stale, 0 without-rows` */
export function describeDifferences(counts: DifferenceCounts): string {
  return DIFFERENCES.map((difference) => `${count(counts[difference])} ${difference}`).join(', ')
}

interface Row {
  uri: string
  cid: string
  rev: string | null
}

const PAGE = 1_000

/** @throws TransientError, FatalError */
export async function compareRepo(
  db: DatabasePool,
  collections: CollectionSet,
  repo: RepoExport,
  { time }: { time: string },
): Promise<Comparison> {
  const { did, rev, commit } = repo
  const rows = await indexedRecords(db, did)
  const comparison: Comparison = { did, rev, commit, records: 0, same: 0, newer: 0, refused: 0, differing: [] }
  const same: string[] = []
  for (const record of repo.records((nsid) => collections.stores(nsid))) {
    const uri = `at://${did}/${record.path}`
    const row = rows.get(uri)
    rows.delete(uri)
    if ('unwanted' in record) continue
    if ('refused' in record) {
      comparison.refused++
      continue
    }
    comparison.records++
    if (row?.cid === record.cid) same.push(uri)
    else if (row && isNewer(row, rev)) comparison.newer++
    else if (prepare(collections, [eventOf(repo, record, time)]).refused.length > 0) comparison.refused++
    else comparison.differing.push({ uri, difference: row ? 'stale' : 'missing' })
  }
  for (const row of rows.values()) {
    if (isNewer(row, rev)) comparison.newer++
    else comparison.differing.push({ uri: row.uri, difference: 'extra' })
  }
  const withoutRows = await findWithoutRows(db, collections, same)
  comparison.differing.push(...withoutRows.map((uri): Differing => ({ uri, difference: 'without-rows' })))
  comparison.same = same.length - withoutRows.length
  await dropNewlyDeleted(db, comparison)
  return comparison
}

/** Drops differences that are none: a record that was deleted after the export was made is not missing. */
async function dropNewlyDeleted(db: DatabasePool, comparison: Comparison): Promise<void> {
  const missing = comparison.differing.filter(({ difference }) => difference === 'missing').map(({ uri }) => uri)
  const { rows } = await db.query<{ uri: string }>(
    'select uri from tombstone where uri = any($1::text[]) and rev > $2',
    [missing, comparison.rev],
  )
  const deleted = new Set(rows.map(({ uri }) => uri))
  comparison.differing = comparison.differing.filter(({ uri }) => !deleted.has(uri))
  comparison.newer += deleted.size
}

function isNewer({ rev }: Row, head: string): boolean {
  return rev !== null && rev > head
}

async function indexedRecords(db: DatabasePool, did: string): Promise<Map<string, Row>> {
  const found = new Map<string, Row>()
  const byBytes = await sortsByBytes(db)
  const page = `select uri, cid, rev from record where ${recordsBetween(byBytes)} order by ${uriInOrder(byBytes)} limit $4`
  const [first, to] = urisOf(did)
  for (let from = first; ;) {
    const { rows } = await db.query<Row>(page, [did, from, to, PAGE])
    for (const row of rows) found.set(row.uri, row)
    if (rows.length < PAGE) return found
    from = `${rows.at(-1)!.uri}!`
  }
}

/** Records of collections with rows that have neither a row in the primary table nor a place among the duplicates. */
async function findWithoutRows(
  db: DatabasePool,
  collections: CollectionSet,
  uris: readonly string[],
): Promise<string[]> {
  const found: string[] = []
  for (const [nsid, own] of Map.groupBy(uris, collectionOfUri)) {
    const [primary] = collections.plugin(nsid)?.tables ?? []
    if (!primary || primary.outlives) continue
    for (const some of slices(own, PAGE)) {
      const { rows } = await db.query<{ uri: string }>(
        `select asked.uri from unnest($1::text[]) as asked (uri)
          where not exists (select from "${primary.name}" as own where own."${primary.owner}" = asked.uri)
            and not exists (select from duplicate_record as waiting where waiting.uri = asked.uri)`,
        [some],
      )
      found.push(...rows.map(({ uri }) => uri))
    }
  }
  return found
}

/**
 * Makes the indexer accept these records again. Changes only records that are not newer than the export, under the lock
 * of the account. It may be repeated.
 */
export async function forgetAge(db: DatabasePool, { did, rev, differing }: Comparison): Promise<void> {
  const urisOf = (...wanted: Difference[]): string[] =>
    differing.filter(({ difference }) => wanted.includes(difference)).map(({ uri }) => uri)
  await transaction(db, { doing: `repairing ${did}` }, async (tx) => {
    await tx.query('select from actor_sync where did = $1 for update', [did])
    await tx.query('update record set rev = null where uri = any($1::text[]) and (rev is null or rev <= $2)', [
      urisOf('stale', 'extra'),
      rev,
    ])
    // If the row kept its CID, the indexer would count the record as written already.
    await tx.query(
      `update record set rev = null, cid = '' where uri = any($1::text[]) and (rev is null or rev <= $2)`,
      [urisOf('without-rows'), rev],
    )
    await tx.query('delete from tombstone where uri = any($1::text[]) and rev <= $2', [urisOf('missing'), rev])
  })
}

/**
 * The events that repair the differences, at the head of the export. The records are read again, because a repository
 * may have a million.
 */
export function* repairEvents(repo: RepoExport, { differing }: Comparison, time: string): Generator<StreamEvent> {
  const { did, rev, commit } = repo
  const wanted = new Set(differing.flatMap(({ uri, difference }) => (difference === 'extra' ? [] : [uri])))
  for (const record of repo.records()) {
    if ('refused' in record || !wanted.has(`at://${did}/${record.path}`)) continue
    yield eventOf(repo, record, time)
  }
  for (const { uri, difference } of differing) {
    if (difference !== 'extra') continue
    const path = { collection: collectionOfUri(uri), rkey: rkeyOfUri(uri) }
    yield { type: 'delete', seq: SEQ_BACKFILL, time, did, commit, rev, ...path }
  }
}

function eventOf(
  { did, rev, commit }: RepoExport,
  { collection, rkey, cid, record }: Extract<ExportedRecord, { record: unknown }>,
  time: string,
): CreateEvent {
  return { type: 'create', seq: SEQ_BACKFILL, time, did, commit, rev, collection, rkey, cid, record }
}
