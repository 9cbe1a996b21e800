/** Faults that an indexer could make, planted one by one in a faithful copy: what share of them is noticed says how much a comparison that finds nothing is worth. */
import { Both } from './allowance.ts'
import { judge } from './allowed.ts'
import { compare } from './compare.ts'
import { KEYS, TABLE_NAMES, type Row, type TableName } from './tables.ts'

/** When things were indexed may differ for whole tables. */
const TIMES = ['indexedAt', 'deletedAt']
/** So many rows of each table are tried. */
const ROWS = 6

export interface Noticed {
  planted: number
  /** Table, and column or "a row", of which no fault was noticed. */
  never: string[]
  missed: number
}

/** Takes the official rows for ours, spoils one row or one column at a time, and looks whether the difference would be explained away. */
export function plantFaults({ official, happened }: Both): Noticed {
  const noticed: Noticed = { planted: 0, never: [], missed: 0 }
  for (const table of TABLE_NAMES) {
    const all = official.all(table)
    const step = Math.max(1, Math.floor(all.length / ROWS))
    const tried = all.filter((_, i) => i % step === 0).slice(0, ROWS)
    for (const [what, faults] of faultsOf(table, tried)) {
      const seen = faults.filter(([row, spoilt]) => {
        const both = new Both(official, official.with(table, row, spoilt), happened)
        return judge(compare(both.official, both.ours, [table]), both).unexplained.length > 0
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
