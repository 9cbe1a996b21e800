/**
 * Makes our rows equal to those of the official database where they differ. Then answers can be compared that depend on
 * rows which are allowed to differ. Called only with differences that have been explained.
 */
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { Difference } from './compare.ts'
import { KEYS, type Row, type TableName } from './tables.ts'

/** Rows that may stand in the way of a unique key are removed first. */
const ORDER: readonly Difference['kind'][] = ['only ours', 'column', 'only official']

export async function evenOut(db: DatabasePool, differences: readonly Difference[]): Promise<void> {
  const generated = await generatedColumns(db)
  for (const difference of differences.toSorted((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind))) {
    const { table } = difference
    const writable = (row: Row) => Object.keys(row).filter((name) => !generated.has(`${table} ${name}`))
    switch (difference.kind) {
      case 'only ours':
        await db.query(
          `delete from "${table}" where ctid = (select ctid from "${table}" where ${where(table)} limit 1)`,
          keyValues(table, difference.ours),
        )
        break
      case 'only official': {
        const columns = writable(difference.official)
          .map((name) => `"${name}"`)
          .join(', ')
        await db.query(
          `insert into "${table}" (${columns}) select ${columns} from jsonb_populate_record(null::bsky."${table}", $1)`,
          [JSON.stringify(difference.official)],
        )
        break
      }
      case 'column':
        if (generated.has(`${table} ${difference.column}`)) break
        await db.query(
          `update "${table}" set "${difference.column}" = news."${difference.column}"
           from jsonb_populate_record(null::bsky."${table}", $${KEYS[table].length + 1}) news where ${where(table, `"${table}".`)}`,
          [...keyValues(table, difference.ours), JSON.stringify(difference.official)],
        )
    }
  }
}

function where(table: TableName, prefix = ''): string {
  return KEYS[table].map((column, i) => `${prefix}"${column}"::text is not distinct from $${i + 1}::text`).join(' and ')
}

function keyValues(table: TableName, row: Row): unknown[] {
  return KEYS[table].map((column) => row[column] ?? null)
}

async function generatedColumns(db: DatabasePool): Promise<Set<string>> {
  const { rows } = await db.query<{ name: string }>(
    `select table_name || ' ' || column_name as name from information_schema.columns
     where table_schema = current_schema() and is_generated = 'ALWAYS'`,
  )
  return new Set(rows.map(({ name }) => name))
}
