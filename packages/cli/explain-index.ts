/** Where a record or an account is in PostgreSQL: its record, tombstone, rows, counters, and its account. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import { sortsByBytes } from '@sluice/database/collation.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { build, firstRowOf } from '@sluice/database/typed.ts'
import { recordsBetween, urisOf } from '@sluice/indexing/ranges.ts'
import type { Settings } from './config.ts'

export interface IndexPlace {
  actor:
    { handle: string | null; upstreamStatus: string | null; takedownRef: string | null; indexedAt: string } | undefined
  sync: { repoRev: string | null; commitCid: string; resyncRev: string | null } | undefined
  /** How many records the account has. */
  records: number
  /** Whether records of its collection are stored, and whether they have rows of their own. */
  stored: boolean
  hasPlugin: boolean
  record:
    | { cid: string; rev: string | null; fromExport: boolean | null; indexedAt: string; takedownRef: string | null }
    | undefined
  tombstone: { rev: string; deletedAt: string } | undefined
  duplicate: { duplicateOf: string } | undefined
  tables: { table: string; rows: number }[]
  counters: { table: string; column: string; key: string; value: number | undefined }[]
  notifications: number
}

/** @throws TransientError, FatalError */
export async function explainIndex(
  db: DatabasePool,
  settings: Settings,
  did: string,
  uri: string | undefined,
): Promise<IndexPlace> {
  const set = new CollectionSet(collections, settings.collections)
  const nsid = uri === undefined ? '' : collectionOfUri(uri)
  const place: IndexPlace = {
    actor: await firstRowOf(
      db,
      build.selectFrom('actor').select(['handle', 'upstreamStatus', 'takedownRef', 'indexedAt']).where('did', '=', did),
    ),
    sync: await firstRowOf(
      db,
      build.selectFrom('actor_sync').select(['repoRev', 'commitCid', 'resyncRev']).where('did', '=', did),
    ),
    records: await countRecords(db, did),
    stored: set.stores(nsid),
    hasPlugin: (set.plugin(nsid)?.tables.length ?? 0) > 0,
    record: undefined,
    tombstone: undefined,
    duplicate: undefined,
    tables: [],
    counters: [],
    notifications: 0,
  }
  if (uri === undefined) return place
  const rows = await rowsOf(db, set, uri)
  return {
    ...place,
    record: await firstRowOf(
      db,
      build
        .selectFrom('record')
        .select(['cid', 'rev', 'fromExport', 'indexedAt', 'takedownRef'])
        .where('uri', '=', uri),
    ),
    tombstone: await firstRowOf(db, build.selectFrom('tombstone').select(['rev', 'deletedAt']).where('uri', '=', uri)),
    duplicate: await firstRowOf(db, build.selectFrom('duplicate_record').select('duplicateOf').where('uri', '=', uri)),
    ...rows,
    notifications: (await firstRowOf(
      db,
      build
        .selectFrom('notification')
        .select(({ fn }) => fn.countAll<number>().as('n'))
        .where('recordUri', '=', uri),
    ))!.n,
  }
}

async function countRecords(db: DatabasePool, did: string): Promise<number> {
  const between = recordsBetween(await sortsByBytes(db), ['$3', '$1', '$2'])
  const { rows } = await db.query<{ n: number }>(`select count(*)::int as n from record where ${between}`, urisOf(did))
  return rows[0]!.n
}

/** The rows of a record in each table of its collection, and the counters in which they count. */
async function rowsOf(
  db: DatabasePool,
  set: CollectionSet,
  uri: string,
): Promise<Pick<IndexPlace, 'tables' | 'counters'>> {
  const plugin = set.plugin(collectionOfUri(uri))
  const tables: IndexPlace['tables'] = []
  const counters: IndexPlace['counters'] = []
  for (const table of plugin?.tables ?? []) {
    const own = plugin!.counters.filter(({ of }) => of === table)
    const columns = [...new Set([table.owner, ...own.flatMap(({ by, unless }) => [by, ...(unless ? [unless] : [])])])]
    const { rows } = await db.query<Record<string, unknown>>(
      `select ${columns.map((column) => `"${column}"`).join(', ')} from "${table.name}" where "${table.owner}" = $1`,
      [uri],
    )
    if (rows.length > 0) tables.push({ table: table.name, rows: rows.length })
    for (const row of rows) {
      for (const counter of own) {
        const key = row[counter.by]
        if (typeof key !== 'string' || (counter.unless !== undefined && row[counter.unless] === true)) continue
        const { rows: totals } = await db.query<{ n: number }>(
          `select "${counter.column}" as n from "${counter.table}" where "${counter.key}" = $1`,
          [key],
        )
        counters.push({ table: counter.table, column: counter.column, key, value: totals[0]?.n })
      }
    }
  }
  return { tables, counters }
}
