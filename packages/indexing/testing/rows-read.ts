/**
 * What PostgreSQL reads, by its own statistics. Works only for an index with one connection: a session's counts are
 * visible to others once the session has reported them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { DatabasePool } from '@sluice/database/pool.ts'

/**
 * Before PostgreSQL 15 a session reports what it has read at most every half second, at the end of a transaction; and
 * the statistics that others see may be as old.
 */
const TOLD_MS = 600

/** Makes the session report what it has read so far. */
export async function tell(db: DatabasePool): Promise<void> {
  const { rows } = await db.query<{ atOnce: boolean }>(
    `select to_regproc('pg_stat_force_next_flush') is not null as "atOnce"`,
  )
  if (rows[0]!.atOnce) return void (await db.query('select pg_stat_force_next_flush()'))
  // Before PostgreSQL 15 another process counts the reports, in its own time, and a report may be lost. So this reads
  // something until that has been counted: then all earlier reports have been counted.
  const scans = async (): Promise<number> => (await db.query<{ n: number }>(SCANS)).rows[0]!.n
  for (const before = await scans(); (await scans()) === before;) {
    await sleep(TOLD_MS)
    await db.query('select from sluice_migration')
    await sleep(TOLD_MS)
  }
}

const SCANS = `select coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::int as n from pg_stat_user_tables where relname = 'sluice_migration'`

/** How many rows of a table have been read so far. */
export async function rowsRead(db: DatabasePool, table: string): Promise<number> {
  await tell(db)
  const { rows } = await db.query<{ n: number }>(
    `select (seq_tup_read + idx_tup_fetch)::int as n from pg_stat_user_tables where relname = $1`,
    [table],
  )
  return rows[0]!.n
}

/**
 * Waits until every transaction that runs on the server has ended, those of other tests and databases too. Otherwise
 * everything written since the oldest of them began would count as unseen: what hangs on it would be looked at, or
 * judged again.
 */
export async function othersEnded(db: DatabasePool): Promise<void> {
  const own = (await db.query<{ own: string }>('select pg_current_xact_id()::text as own')).rows[0]!.own
  const older = 'select pg_snapshot_xmin(pg_current_snapshot()) <= $1::text::xid8 as still'
  while ((await db.query<{ still: boolean }>(older, [own])).rows[0]!.still) await sleep(20)
}

/** How many rows and index entries are read while `act` runs, after all other transactions have ended. */
export async function looksOf({ db }: { db: DatabasePool }, act: () => Promise<unknown>): Promise<number> {
  const looks = async (): Promise<number> => {
    await tell(db)
    const sum = 'select sum(seq_tup_read + coalesce(idx_scan + idx_tup_fetch, 0))::int as n from pg_stat_user_tables'
    return (await db.query<{ n: number }>(sum)).rows[0]!.n
  }
  await othersEnded(db)
  const before = await looks()
  await act()
  return (await looks()) - before
}
