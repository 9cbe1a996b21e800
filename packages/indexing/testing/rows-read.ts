/** What PostgreSQL reads, as it counts it itself. Only of an index with one connection: a session's counts show when it has told them. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { DatabasePool } from '@sluice/database/pool.ts'

/** Half a second is how often a session before 15 tells what it has read, at the end of a transaction, and how old what is read of that may be. */
const TOLD_MS = 600

/** The session tells what it has read so far. */
async function tell(db: DatabasePool): Promise<void> {
  const { rows } = await db.query<{ atOnce: boolean }>(
    `select to_regproc('pg_stat_force_next_flush') is not null as "atOnce"`,
  )
  if (rows[0]!.atOnce) return void (await db.query('select pg_stat_force_next_flush()'))
  await sleep(TOLD_MS)
  await db.query('select')
  await sleep(TOLD_MS)
}

/** How many rows of a table were read so far. */
export async function rowsRead(db: DatabasePool, table: string): Promise<number> {
  await tell(db)
  const { rows } = await db.query<{ n: number }>(
    `select (seq_tup_read + idx_tup_fetch)::int as n from pg_stat_user_tables where relname = $1`,
    [table],
  )
  return rows[0]!.n
}

/**
 * How many rows and index entries are looked at while `act` runs. Not before all that ran on the server has ended, other tests' too: what was written since the oldest of them began would be taken
 * for unseen, and what hangs on it looked at.
 */
export async function looksOf({ db }: { db: DatabasePool }, act: () => Promise<unknown>): Promise<number> {
  const looks = async (): Promise<number> => {
    await tell(db)
    const sum = 'select sum(seq_tup_read + coalesce(idx_scan + idx_tup_fetch, 0))::int as n from pg_stat_user_tables'
    return (await db.query<{ n: number }>(sum)).rows[0]!.n
  }
  const own = (await db.query<{ own: string }>('select pg_current_xact_id()::text as own')).rows[0]!.own
  const older = 'select pg_snapshot_xmin(pg_current_snapshot()) <= $1::text::xid8 as still'
  while ((await db.query<{ still: boolean }>(older, [own])).rows[0]!.still) await sleep(20)
  const before = await looks()
  await act()
  return (await looks()) - before
}
