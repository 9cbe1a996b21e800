import type { DatabasePool } from '@sluice/database/pool.ts'

/** How many rows of a table were read so far, when all is read by the one connection of the pool. */
export async function rowsRead(db: DatabasePool, table: string): Promise<number> {
  await db.query('select pg_stat_force_next_flush()')
  const { rows } = await db.query<{ n: number }>(
    `select (seq_tup_read + idx_tup_fetch)::int as n from pg_stat_user_tables where relname = $1`,
    [table],
  )
  return rows[0]!.n
}
