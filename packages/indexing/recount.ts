/**
 * Counts again what counters count, and corrects those that are wrong, while everything runs.
 *
 * Counters change by deltas, in the transactions that insert and remove rows. A recount that first read the rows and
 * later wrote a number would undo the deltas that were committed in between. So each step is a transaction that locks
 * counter rows first, in key order as batches do, and then counts with one statement, under a snapshot taken after the
 * locks. A batch that committed before is in the count and in the counter. A batch that is under way waits for the lock
 * with its delta, and its delta is for rows that the snapshot does not see yet.
 *
 * Keys without a counter row are given one before, with zeros, so that there is something to lock. At the end of a bulk
 * load nothing is counted yet: it counts keys without a row in one pass and without locks (`countNew`).
 *
 * Keys are taken in order, some hundred at a time, so that no batch waits for long. A later run goes on after the last
 * key that was done.
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
  /** Rows that must exist even if nothing is counted in them. */
  rows: AggregateRow[]
}

export interface RecountStep {
  table: string
  /** The last key that was counted. Absent: there are no more. */
  after: string | undefined
  keys: number
  /** Counter rows that were wrong and are now corrected (with `check`: that are wrong). */
  wrong: WrongCounter[]
}

export interface WrongCounter {
  key: string
  /** By column: the stored number and the right one. */
  columns: Record<string, { was: number; is: number }>
}

export interface RecountOptions {
  /** Takes keys after this one. */
  after?: string
  /** How many keys one step takes. */
  keys?: number
  /** How many transactions run side by side and share a step's keys. Default 1. */
  jobs?: number
  /** Only reports what is wrong; takes no locks. */
  check?: boolean
  /**
   * Given when most keys have no counter row yet: a pool whose connections find rows by key. Keys are then found and
   * counted there.
   */
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

/**
 * Recounts the next keys. Call it again with the returned `after` until that is undefined.
 * @throws TransientError, FatalError
 */
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
 * Counts those of these keys that have no counter row, and makes their rows; returns the other keys. This is one pass
 * over the rows in index order, where a recount looks up each key and writes its row three times.
 *
 * Concurrent batches: a batch that commits before this statement begins, or before the row is made, has already made a
 * row for what it counted. Its keys are among those returned. A batch that commits later finds the row, which does not
 * count that batch's rows yet, and adds them.
 *
 * @param keys sorted, and without a gap: all keys between the first and the last of them
 */
async function countNew(db: DatabasePool, aggregate: Aggregate, keys: readonly string[]): Promise<string[]> {
  const { rows } = await transaction(db, { doing: 'counting' }, (tx) =>
    tx.query<{ key: string }>(countRange(aggregate), [keys[0], keys.at(-1)]),
  )
  const counted = new Set(rows.map(({ key }) => key))
  return keys.filter((key) => !counted.has(key))
}

/** Inserts in byte order of the keys, the order in which batches lock them. */
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

/**
 * Recounts these keys only.
 * @throws TransientError, FatalError
 */
export async function recountKeys(
  db: DatabasePool,
  aggregate: Aggregate,
  keys: readonly string[],
  { check = false }: Pick<RecountOptions, 'check'> = {},
): Promise<WrongCounter[]> {
  const sorted = [...new Set(keys)].sort()
  // A transaction of its own. In one transaction, the rows made here and those locked below would be locked in two
  // orders, and could deadlock with a batch.
  if (!check) await transaction(db, { doing: 'recounting' }, (tx) => tx.query(make(aggregate), [sorted]))
  return transaction(db, { doing: 'recounting' }, async (tx) => {
    // One statement sees a counter and its rows as of one moment, so a check needs no lock.
    if (check) return compare(tx, aggregate, sorted)
    // At READ COMMITTED each statement has its own snapshot: the count is made after the locks are held.
    await tx.query(lock(aggregate), [sorted])
    const wrong = await compare(tx, aggregate, sorted)
    await mend(tx, aggregate, wrong)
    return wrong
  })
}

/**
 * Keys that have a counter row, or should have one, or have rows to count: a merge of ordered index scans, cut off at
 * the limit.
 */
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

/** Inserts the missing counter rows, with zeros. */
function make({ table, key }: Aggregate): string {
  return `insert into "${table}" ("${key}") select unnest($1::text[]) on conflict ("${key}") do nothing`
}

/** Locks in byte order, as batches do, whatever the collation of the database. */
function lock({ table, key }: Aggregate): string {
  return `select from "${table}" where "${key}" = any($1::text[]) order by "${key}" collate "C" for update`
}

/**
 * Looks up each key by itself. Given all keys at once, the planner may think that they are most of a table, and read it
 * from end to end for every 500.
 */
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

/** One statement for all columns: a row that is written once for each of its columns is three times the work. */
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
