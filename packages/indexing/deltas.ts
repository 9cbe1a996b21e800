/**
 * Signed changes of counters. They come from rows that were really inserted or removed, and are merged over the batch.
 * Each aggregate row is written once, in key order, so that two indexers cannot deadlock.
 */
import type { AggregateRow, Counter } from '@sluice/collections/define.ts'
import type { Transaction } from '@sluice/database/transaction.ts'

interface Aggregate {
  table: string
  key: string
  columns: string[]
  /** By key: the change of each column, in the order of `columns`. */
  rows: Map<string, number[]>
  /** Keys whose row must exist, even if nothing changes. */
  kept: Set<string>
}

export class Deltas {
  readonly #aggregates = new Map<string, Aggregate>()

  /** Counts one inserted (+1) or removed (−1) row of the counters' table. */
  add(counters: readonly Counter[], values: Record<string, unknown>, sign: 1 | -1): void {
    for (const counter of counters) {
      const key = values[counter.by]
      if (typeof key !== 'string' || (counter.unless !== undefined && values[counter.unless] === true)) continue
      this.change(counter, key, sign)
    }
  }

  change({ table, key: keyColumn, column }: Counter, key: string, by: number): void {
    const aggregate = this.#aggregate(table, keyColumn)
    let index = aggregate.columns.indexOf(column)
    if (index === -1) index = aggregate.columns.push(column) - 1
    let row = aggregate.rows.get(key)
    if (!row) aggregate.rows.set(key, (row = []))
    row[index] = (row[index] ?? 0) + by
  }

  /** Makes sure that the aggregate rows for these values exist, with zeros if nothing is counted in them. */
  keep(aggregateRows: readonly AggregateRow[], values: Record<string, unknown>): void {
    for (const { table, key: keyColumn, by } of aggregateRows) {
      const key = values[by]
      if (typeof key !== 'string') continue
      const { rows, kept } = this.#aggregate(table, keyColumn)
      if (!rows.has(key)) rows.set(key, [])
      kept.add(key)
    }
  }

  #aggregate(table: string, key: string): Aggregate {
    let aggregate = this.#aggregates.get(table)
    if (!aggregate) {
      aggregate = { table, key, columns: [], rows: new Map(), kept: new Set() }
      this.#aggregates.set(table, aggregate)
    }
    return aggregate
  }

  /**
   * Writes the changes that do not cancel out, and the rows that must exist. The answers are not awaited here: the
   * transaction awaits them before it commits.
   */
  flush(tx: Transaction): void {
    const aggregates = [...this.#aggregates.values()].sort((a, b) => (a.table < b.table ? -1 : 1))
    for (const { table, key, columns, rows, kept } of aggregates) {
      const changed = [...rows]
        .filter(([k, deltas]) => kept.has(k) || deltas.some((n) => n !== 0))
        .sort(([a], [b]) => (a < b ? -1 : 1))
      if (changed.length === 0) continue
      // Columns are sorted: in the order in which a batch meets them, each order would be a prepared statement of its
      // own on every connection.
      const ordered = columns.toSorted()
      void tx.query({ name: `count-${table}-${ordered.join('-')}`, text: upsert(table, key, ordered) }, [
        changed.map(([k]) => k),
        ...ordered.map((column) => changed.map(([, deltas]) => deltas[columns.indexOf(column)] ?? 0)),
      ])
    }
  }
}

function upsert(table: string, key: string, columns: readonly string[]): string {
  const names = columns.map((column) => `"${column}"`)
  const added = names.map((name) => `${name} = total.${name} + excluded.${name}`)
  return `
    insert into "${table}" as total (${[`"${key}"`, ...names].join(', ')})
    select * from unnest(${['$1::text[]', ...columns.map((_, i) => `$${i + 2}::bigint[]`)].join(', ')})
    on conflict ("${key}") do ${added.length > 0 ? `update set ${added.join(', ')}` : 'nothing'}`
}
