/** Removes the rows of replaced and deleted records from the index, and lowers the counters that counted them. */
import type { Transaction } from '@sluice/database/transaction.ts'
import { keyed } from '@sluice/collections/by-key.ts'
import { collectionOfUri, type Collection } from '@sluice/collections/define.ts'
import { type Statement } from '@sluice/collections/depends.ts'
import type { Table } from '@sluice/collections/record.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Deltas } from './deltas.ts'
import type { Past, Version } from './version.ts'

/** A record whose rows must be removed. */
export interface Going {
  uri: string
  /** When the record was deleted or changed. */
  at: string
  /** The record was deleted, not changed. */
  deleted: boolean
}

/**
 * The records that a batch deletes or replaces.
 * @param folded versions that later versions of the same batch supersede. If the batch brings several versions of a
 * record, the version that its deletion ends is not the one in the index. So the stored notifications go as they do at
 * an edit
 */
export function goingOf(versions: readonly Version[], folded: readonly Past[]): Going[] {
  const several = new Set(folded.map(({ version }) => version.uri))
  return versions.map(({ uri, time, content }) => ({ uri, at: time, deleted: !content && !several.has(uri) }))
}

/** A record that stays, but whose rows go because another record of the same key takes over. */
export function displaced(uri: string): Going {
  return { uri, at: '', deleted: false }
}

/** A removed row of a primary table, with the columns that its collection counts by or keys by. */
export interface RemovedRow {
  uri: string
  values: Record<string, unknown>
}

/** By collection: the rows that its primary table lost. */
export type Removed = Map<string, RemovedRow[]>

/**
 * Removes the collection rows, notifications and `duplicate_record` rows of these records. Lowers the counters by the
 * rows that were really there.
 */
export async function removeRows(
  tx: Transaction,
  collections: CollectionSet,
  going: readonly Going[],
  deltas: Deltas,
): Promise<Removed> {
  const uris = going.map(({ uri }) => uri)
  const removed: Removed = new Map()
  if (uris.length === 0) return removed
  const byCollection = Map.groupBy(going, ({ uri }) => collectionOfUri(uri))
  void tx.query(DELETE_DUPLICATES, [uris])
  await Promise.all(
    collections.plugins.map(async (plugin) => {
      const owners = byCollection.get(plugin.nsid)
      if (!owners) return
      const rows = await Promise.all(plugin.tables.map((table) => deleteRows(tx, plugin, table, owners, deltas)))
      removed.set(plugin.nsid, rows[0] ?? [])
    }),
  )
  const told = going.flatMap(({ uri, deleted }) =>
    deleted && collections.plugin(collectionOfUri(uri))?.deletionNotifications ? [] : [uri],
  )
  // Notifications go after the rows. Whoever derives a record again holds the lock on its row, and may be writing a
  // notification for it: this waits for the row first.
  void tx.query(DELETE_NOTIFICATIONS, [told])
  return removed
}

const DELETE_DUPLICATES = {
  name: 'delete-duplicates',
  text: `delete from duplicate_record where uri = any($1::text[])`,
}
const DELETE_NOTIFICATIONS = {
  name: 'delete-notifications',
  text: `delete from notification where "recordUri" = any($1::text[])`,
}

async function deleteRows(
  tx: Transaction,
  plugin: Collection,
  table: Table,
  owners: readonly Going[],
  deltas: Deltas,
): Promise<RemovedRow[]> {
  if (table.outlives) {
    void tx.query(markDeleted(table, table.outlives.deletedAt), [owners.map((o) => o.uri), owners.map((o) => o.at)])
    return []
  }
  const counters = plugin.counters.filter((counter) => counter.of === table)
  const columns = new Set([table.owner, ...counters.flatMap((c) => [c.by, ...(c.unless ? [c.unless] : [])])])
  if (table === plugin.tables[0]) for (const column of plugin.unique) columns.add(column)
  const returning = [...columns].map((column) => `"${column}"`).join(', ')
  const { rows } = await tx.query<Record<string, unknown>>(
    {
      name: `delete-${table.name}`,
      text: `delete from "${table.name}" where "${table.owner}" = any($1::text[]) returning ${returning}`,
    },
    [owners.map(({ uri }) => uri)],
  )
  for (const values of rows) deltas.add(counters, values, -1)
  return rows.map((values) => ({ uri: values[table.owner] as string, values }))
}

function markDeleted({ name, owner }: Table, deletedAt: string): Statement {
  return {
    name: `mark-deleted-${name}`,
    text: `
      update "${name}" set "${deletedAt}" = gone.at from unnest($1::text[], $2::text[]) as gone (uri, at)
      where ${keyed(`"${name}"."${owner}"`, 'gone.uri')} and "${deletedAt}" is null`,
  }
}
