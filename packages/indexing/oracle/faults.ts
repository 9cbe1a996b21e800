/**
 * Plants faults that an indexer could make, one by one, in a faithful copy. The share of faults that is noticed tells
 * how much a comparison without differences is worth.
 */
import { Both } from './allowance.ts'
import { explain } from './allowed.ts'
import { compare } from './compare.ts'
import { KEYS, TABLE_NAMES, type Row, type TableName } from './tables.ts'

/** Columns that may differ for whole tables: when records were indexed. */
const TIMES = ['indexedAt', 'deletedAt']
/** How many rows of each table are tried. */
const ROWS = 6

export interface Noticed {
  planted: number
  /** Tables with a column or "a row", of which no planted fault was noticed. */
  never: string[]
  missed: number
}

/**
 * Uses a copy of the official rows as ours, changes one row or one column at a time, and checks whether an allowance
 * would explain the difference away.
 */
export function plantFaults({ official, happened }: Both): Noticed {
  const noticed: Noticed = { planted: 0, never: [], missed: 0 }
  for (const table of TABLE_NAMES) {
    const all = official.all(table)
    const step = Math.max(1, Math.floor(all.length / ROWS))
    const tried = all.filter((_, i) => i % step === 0).slice(0, ROWS)
    for (const [what, faults] of faultsOf(table, tried)) {
      const seen = faults.filter(([row, spoilt]) => {
        const both = new Both(official, official.with(table, row, spoilt), happened)
        return explain(compare(both.official, both.ours, [table]), both).unexplained.length > 0
      })
      noticed.planted += faults.length
      noticed.missed += faults.length - seen.length
      if (faults.length > 0 && seen.length === 0) noticed.never.push(`${table}: ${what}`)
    }
  }
  return noticed
}

type Fault = [row: Row, spoilt: Row | undefined]

function faultsOf(table: TableName, rows: readonly Row[]): [what: string, faults: Fault[]][] {
  const keys: readonly string[] = KEYS[table]
  const columns = Object.keys(rows[0] ?? {}).filter((column) => !keys.includes(column) && !TIMES.includes(column))
  return [
    ['a row', rows.map((row): Fault => [row, undefined])],
    ...columns.map((column): [string, Fault[]] => [
      column,
      rows.flatMap((row): Fault[] => (row[column] === null ? [] : [[row, { ...row, [column]: spoil(row[column]) }]])),
    ]),
  ]
}

function spoil(value: unknown): unknown {
  if (typeof value === 'boolean') return !value
  if (typeof value === 'number') return value + 1
  return typeof value === 'string' ? `${value.slice(0, -1)}~` : null
}
