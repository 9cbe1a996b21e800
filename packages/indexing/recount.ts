/**
 * Counts anew what counters count, and mends those that are wrong, while everything runs.
 *
 * Counters change by deltas in the transactions that insert and remove rows. A recount that read the rows and then wrote a number would undo the
 * deltas that were committed in between. So each step is one statement in one transaction that locks counter rows first, in key order, as batches do, and
 * then counts under a snapshot taken after the locks: a batch that committed before is in the count and in the counter, one that is under way waits for
 * the lock with its delta, which counts rows that the snapshot does not see yet. Keys without a counter row are given one
 * before, with zeros, so that there is something to lock. The end of a bulk load, of which nothing is counted yet, counts keys without a row in one pass and without locks (`countNew`).
 *
 * Keys are taken in their order, some hundred at a time, so that no batch waits for long; the last key done is where a later run goes on.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { AggregateRow, Counter } from '@sluice/collections/define.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import { shared, sideBySide } from '@sluice/runtime/side-by-side.ts'

/** One aggregate table with all of its counters. */
export interface Aggregate {
  table: string
  key: string
  counters: Counter[]
  /** Whose rows have to be there, though nothing is counted. */
  rows: AggregateRow[]
}

export interface RecountStep {
  table: string
  /** The last key that was looked at; undefined: there are no more. */
  after: string | undefined
  keys: number
  /** Counter rows that were wrong, and are right now (or, when only checking, are wrong). */
  wrong: WrongCounter[]
}

export interface WrongCounter {
  key: string
  /** By column: what stood there, and what is right. */
  columns: Record<string, { was: number; is: number }>
}

export interface RecountOptions {
  /** Where to go on: keys after this one. */
  after?: string
  /** Keys in one step. */
  keys?: number
  /** Transactions side by side, among which a step's keys are shared. Default 1. */
  jobs?: number
  /** Says what is wrong, and leaves it; takes no locks. */
  check?: boolean
  /** Most keys have no counter row yet. Then `keys` are found and counted on connections that find their rows by key. */
  byKey?: DatabasePool
}

const KEYS = 500

/** The aggregate tables that the collections declare counters for. */
export function aggregatesOf(collections: CollectionSet): Aggregate[] {
  const counters = collections.plugins.flatMap((plugin) => plugin.counters)
  const rows = collections.plugins.flatMap((plugin) => plugin.aggregateRows)
  return [...Map.groupBy(counters, ({ table }) => table)]
    .map(([table, own]): Aggregate => {
      return { table, key: own[0]!.key, counters: own, rows: rows.filter((row) => row.table === table) }
    })
    .toSorted((a, b) => (a.table < b.table ? -1 : 1))
}

/** One step over the next keys. Call it again with `after` until that is undefined. @throws TransientError, FatalError */
export async function recountStep(
  db: DatabasePool,
  aggregate: Aggregate,
  { after = '', keys = KEYS, jobs = 1, check = false, byKey }: RecountOptions = {},
): Promise<RecountStep> {
  const found = await (byKey ?? db).query<{ key: string }>(nextKeys(aggregate), [after, keys])
  const own = found.rows.map(({ key }) => key)
  if (own.length === 0) return { table: aggregate.table, after: undefined, keys: 0, wrong: [] }
  const wrong = await sideBySide(shared(own, jobs), jobs, async (part) => {
    const rest = byKey && !check ? await countNew(byKey, aggregate, part) : part
    return rest.length > 0 ? await recountKeys(db, aggregate, rest, { check }) : []
  })
  return {
    table: aggregate.table,
    after: own.length < keys ? undefined : own.at(-1),
    keys: own.length,
    wrong: wrong.flat(),
  }
}

/**
 * Counts those of these keys that have no counter row, and makes it; returns the others. One pass over the rows in the order of the index, where a recount looks for each key and writes its
 * row three times.
 *
 * A batch that commits before this statement begins has left a row for what it counted, and one that commits before the row is made does too: these keys are among the others. For one that
 * commits later the row stands there already, without what that batch counts, and it adds to it.
 *
 * @param keys in their order, and all that there are between the first and the last of them
 */
async function countNew(db: DatabasePool, aggregate: Aggregate, keys: readonly string[]): Promise<string[]> {
  const { rows } = await transaction(db, { doing: 'counting' }, (tx) =>
    tx.query<{ key: string }>(countRange(aggregate), [keys[0], keys.at(-1)]),
  )
  const counted = new Set(rows.map(({ key }) => key))
  return keys.filter((key) => !counted.has(key))
}

/** In byte order, as batches take their locks. */
function countRange({ table, key, counters, rows }: Aggregate): string {
  const between = (by: string): string => `"${by}" >= $1 and "${by}" <= $2`
  const numbers = (n: (i: number) => string): string => counters.map((_, i) => `${n(i)} as n${i}`).join(', ')
  const counted = counters.map(
    ({ of, by, unless }, one) =>
      `select "${by}" as key, ${numbers((i) => (i === one ? 'count(*)' : '0'))} from "${of.name}" where ${between(by)}` +
      `${unless === undefined ? '' : ` and "${unless}" is not true`} group by "${by}"`,
  )
  const needed = rows.map(
    ({ of, by }) => `select "${by}", ${numbers(() => '0')} from "${of.name}" where ${between(by)} group by "${by}"`,
  )
  return `
    insert into "${table}" ("${key}", ${counters.map(({ column }) => `"${column}"`).join(', ')})
    select key, ${counters.map((_, i) => `sum(n${i})`).join(', ')} from (${[...counted, ...needed].join(' union all ')}) as part
    group by key order by key collate "C" on conflict ("${key}") do nothing returning "${key}" as key`
}

/** These keys only. @throws TransientError, FatalError */
export async function recountKeys(
  db: DatabasePool,
  aggregate: Aggregate,
  keys: readonly string[],
  { check = false }: Pick<RecountOptions, 'check'> = {},
): Promise<WrongCounter[]> {
  const sorted = [...new Set(keys)].sort()
  // On its own: rows made here and rows locked below would be taken in two orders, and meet a batch in a deadlock.
  if (!check) await transaction(db, { doing: 'recounting' }, (tx) => tx.query(make(aggregate), [sorted]))
  return transaction(db, { doing: 'recounting' }, async (tx) => {
    // One statement sees a counter and its rows as of one moment; to look needs no lock.
    if (check) return compare(tx, aggregate, sorted)
    // At READ COMMITTED each statement has a snapshot of its own: what is counted is counted after the locks are held.
    await tx.query(lock(aggregate), [sorted])
    const wrong = await compare(tx, aggregate, sorted)
    await mend(tx, aggregate, wrong)
    return wrong
  })
}

/** Keys that have a counter row, or should have one, or have rows to count: a merge of ordered index scans, cut off at the limit. */
function nextKeys({ table, key, counters, rows }: Aggregate): string {
  const named = [...counters, ...rows].map(({ of, by }) => ({ of, by }))
  const sources = [...new Map(named.map((source) => [`${source.of.name} ${source.by}`, source])).values()]
  const parts = [
    `(select "${key}" as key from "${table}" where "${key}" > $1 order by 1 limit $2)`,
    ...sources.map(
      ({ of, by }) => `(select distinct "${by}" as key from "${of.name}" where "${by}" > $1 order by 1 limit $2)`,
    ),
  ]
  return `select key from (${parts.join(' union ')}) as keys order by key limit $2`
}

/** The rows that are missing, with zeros. */
function make({ table, key }: Aggregate): string {
  return `insert into "${table}" ("${key}") select unnest($1::text[]) on conflict ("${key}") do nothing`
}

/** In byte order, as batches lock them, whatever the collation of the database. */
function lock({ table, key }: Aggregate): string {
  return `select from "${table}" where "${key}" = any($1::text[]) order by "${key}" collate "C" for update`
}

/** Each key is looked for by itself: of all at once the planner may think that they are most of a table, and read it from end to end for every 500. */
async function compare(
  tx: Transaction,
  { table, key, counters }: Aggregate,
  keys: readonly string[],
): Promise<WrongCounter[]> {
  const columns = counters.flatMap(({ column, of, by, unless }, i) => [
    `coalesce(total."${column}", 0) as "was${i}"`,
    `(select count(*) from "${of.name}" as own where own."${by}" = asked.key${unless === undefined ? '' : ` and own."${unless}" is not true`}) as "is${i}"`,
  ])
  const { rows } = await tx.query<Record<string, string | number>>(
    `select asked.key, ${columns.join(', ')} from unnest($1::text[]) as asked (key)
       left join "${table}" as total on total."${key}" = asked.key order by 1`,
    [keys],
  )
  return rows.flatMap((row): WrongCounter[] => {
    const differing = counters.flatMap(({ column }, i): [string, { was: number; is: number }][] => {
      const [was, is] = [Number(row[`was${i}`]), Number(row[`is${i}`])]
      return was === is ? [] : [[column, { was, is }]]
    })
    return differing.length === 0 ? [] : [{ key: String(row.key), columns: Object.fromEntries(differing) }]
  })
}

/** In one statement: a row that is written once for each of its columns is three times the work. */
async function mend(
  tx: Transaction,
  { table, key, counters }: Aggregate,
  wrong: readonly WrongCounter[],
): Promise<void> {
  if (wrong.length === 0) return
  const columns = counters.map(({ column }) => column)
  const set = columns.map((column, i) => `"${column}" = coalesce(counted.n${i}, total."${column}")`)
  await tx.query(
    `update "${table}" as total set ${set.join(', ')}
       from unnest($1::text[], ${columns.map((_, i) => `$${i + 2}::bigint[]`).join(', ')})
         as counted (key, ${columns.map((_, i) => `n${i}`).join(', ')}) where total."${key}" = counted.key`,
    [wrong.map((row) => row.key), ...columns.map((column) => wrong.map((row) => row.columns[column]?.is ?? null))],
  )
}
