/**
 * Compares two databases: rows by key that only one of them has, and columns of rows that both have. Nothing is left
 * out here; `allowed.ts` says what may differ.
 */
import { TABLE_NAMES, type Row, type TableName, type Tables } from './tables.ts'

export type Difference =
  | { kind: 'only official'; table: TableName; key: string; official: Row }
  | { kind: 'only ours'; table: TableName; key: string; ours: Row }
  | { kind: 'column'; table: TableName; key: string; column: string; official: Row; ours: Row }

export function compare(official: Tables, ours: Tables, tables: readonly TableName[] = TABLE_NAMES): Difference[] {
  return tables.flatMap((table) => {
    const keys = new Set([...official.keys(table), ...ours.keys(table)])
    return [...keys].flatMap((key) => compareKey(table, key, official.at(table, key), ours.at(table, key)))
  })
}

function compareKey(table: TableName, key: string, theirs: readonly Row[], ours: readonly Row[]): Difference[] {
  const both = Math.min(theirs.length, ours.length)
  return [
    ...theirs.slice(0, both).flatMap((row, i) => compareRow(table, key, row, ours[i]!)),
    ...theirs.slice(both).map((row): Difference => ({ kind: 'only official', table, key, official: row })),
    ...ours.slice(both).map((row): Difference => ({ kind: 'only ours', table, key, ours: row })),
  ]
}

function compareRow(table: TableName, key: string, official: Row, ours: Row): Difference[] {
  const columns = new Set([...Object.keys(official), ...Object.keys(ours)])
  return [...columns]
    .filter((column) => JSON.stringify(official[column]) !== JSON.stringify(ours[column]))
    .map((column) => ({ kind: 'column', table, key, column, official, ours }))
}

/** Describes a difference in one line for a person. */
export function describeDifference(difference: Difference): string {
  const { table, key, kind } = difference
  if (kind === 'column') {
    const { column, official, ours } = difference
    return `${table} ${key}: ${column} is ${JSON.stringify(official[column])}, ours ${JSON.stringify(ours[column])}`
  }
  return `${table} ${key}: ${kind} ${JSON.stringify(kind === 'only ours' ? difference.ours : difference.official)}`
}
