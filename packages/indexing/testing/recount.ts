/**
 * Compares the counters with a count of the rows: the oracle for counters that are kept by signed changes. Reads the
 * declarations of the collections, and nothing of the engine.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'

/** The counters that differ from the number of their rows, one line for each. */
export async function wrongCounters(db: DatabasePool, { plugins }: CollectionSet): Promise<string[]> {
  const lines = await Promise.all(
    plugins
      .flatMap(({ counters }) => counters)
      .map(async ({ of, by, unless, table, key, column }) => {
        const counts = unless === undefined ? `"${by}" is not null` : `"${by}" is not null and "${unless}" is not true`
        const { rows } = await db.query<{ key: string; kept: number; counted: number }>(`
          select key, coalesce(held."${column}", 0)::int as kept, coalesce(counted.n, 0)::int as counted
          from (select "${by}" as key, count(*) as n from "${of.name}" where ${counts} group by 1) as counted
          full join (select "${key}" as key, "${column}" from "${table}") as held using (key)
          where coalesce(held."${column}", 0) <> coalesce(counted.n, 0)`)
        return rows.map((row) => `${table}.${column} of ${row.key} is ${row.kept}, there are ${row.counted}`)
      }),
  )
  return lines.flat()
}
