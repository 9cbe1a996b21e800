/** Takes the rows of replaced and deleted records out of the index, and what they counted for. */
import type { Transaction } from '@sluice/database/transaction.ts'
import { keyed } from '@sluice/collections/by-key.ts'
import { collectionOfUri, type Collection, type Statement, type Table } from '@sluice/collections/define.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Deltas } from './deltas.ts'
import type { Past, Version } from './version.ts'

/** A record whose rows have to go. */
export interface Going {
  uri: string
  /** When it was deleted or changed. */
  at: string
  /** It was deleted, not changed. */
  deleted: boolean
}

/**
 * What a batch deletes or replaces. @param folded versions that others of the batch supersede: where it brings several of a record, what it deletes is not what the index
 * holds, and the notifications of that go as at an edit
 */
export function goingOf(versions: readonly Version[], folded: readonly Past[]): Going[] {
  const several = new Set(folded.map(({ version }) => version.uri))
  return versions.map(({ uri, time, content }) => ({ uri, at: time, deleted: !content && !several.has(uri) }))
}

/** One that stays, and whose rows another record takes over. */
export function displaced(uri: string): Going {
  return { uri, at: '', deleted: false }
}

/** A row of a primary table that was there, with the columns that its collection counts or keys by. */
export interface RemovedRow {
  uri: string
  values: Record<string, unknown>
}

/** By collection: the rows that its primary table lost. */
export type Removed = Map<string, RemovedRow[]>

/** Removes the collection rows, notifications and waiting duplicates that these records own; lowers the counters by what was really there. */
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
  // After the rows: whoever is deriving a record again holds its row, and may be writing a notification for it.
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
