/** What one record left in the index, in the tables that its plugin declares; and what it should have left. */
import type { Collection } from '@sluice/collections/define.ts'
import type { Entry, Row, Table } from '@sluice/collections/record.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'

export interface Footprint {
  /** The stored JSON. Absent: the record does not live. */
  json?: string
  cid?: string
  /** Table → its rows as JSON, sorted. Derived columns are left out. */
  rows: Record<string, string[]>
  /** `did reason subject`, sorted. */
  notifications: string[]
  /** The record for which this one waits as a duplicate. */
  duplicateOf?: string
  hasTombstone: boolean
}

/** What the database holds of the record. */
export async function footprint(db: DatabasePool, plugin: Collection, uri: string): Promise<Footprint> {
  const ask = async <T extends object>(text: string): Promise<T[]> => (await db.query<T>(text, [uri])).rows
  const rows: Record<string, string[]> = {}
  for (const table of plugin.tables) {
    const ended = table.outlives ? ` and "${table.outlives.deletedAt}" is null` : ''
    const names = columnsOf(plugin, table).map((column) => `"${column}"`)
    const found = await ask<Record<string, unknown>>(
      `select ${names.join(', ')} from "${table.name}" where "${table.owner}" = $1${ended}`,
    )
    if (found.length > 0) rows[table.name] = found.map((row) => line(plugin, table, row)).sort()
  }
  const [record] = await ask<{ json: string; cid: string }>('select json, cid from record where uri = $1')
  const told = await ask<{ did: string; reason: string; subject: string | null }>(
    'select did, reason, "reasonSubject" as subject from notification where "recordUri" = $1',
  )
  const [waiting] = await ask<{ duplicateOf: string }>('select "duplicateOf" from duplicate_record where uri = $1')
  return {
    ...record,
    ...waiting,
    rows,
    notifications: told.map(({ did, reason, subject }) => `${did} ${reason} ${subject}`).sort(),
    hasTombstone: (await ask('select from tombstone where uri = $1')).length > 0,
  }
}

/** What the database should hold of a record that lives and does not wait as a duplicate. */
export function expected(plugin: Collection, entry: Entry, json: string): Footprint {
  const rows: Record<string, string[]> = {}
  for (const [name, ofTable] of Map.groupBy(plugin.rows(entry), ({ table }: Row) => table.name)) {
    rows[name] = ofTable.map(({ table, values }) => line(plugin, table, values)).sort()
  }
  const notifications = plugin
    .notifications(entry)
    .filter(({ did }) => did !== entry.did || plugin.notifiesSelf)
    .map(({ did, reason, reasonSubject }) => `${did} ${reason} ${reasonSubject}`)
    .sort()
  return { json, cid: entry.cid, rows, notifications, hasTombstone: false }
}

function columnsOf(plugin: Collection, table: Table): string[] {
  const left = table === plugin.tables[0] ? plugin.derived : []
  return Object.keys(table.columns).filter((column) => !left.includes(column))
}

function line(plugin: Collection, table: Table, values: Record<string, unknown>): string {
  return JSON.stringify(columnsOf(plugin, table).map((column) => [column, values[column] ?? null]))
}
