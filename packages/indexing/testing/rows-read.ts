/** What PostgreSQL reads, as it counts it itself. Only of an index with one connection: a session's counts show when it has told them. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { DatabasePool } from '@sluice/database/pool.ts'

/** Half a second is how often a session before 15 tells what it has read, at the end of a transaction, and how old what is read of that may be. */
const TOLD_MS = 600

/** The session tells what it has read so far. */
export async function tell(db: DatabasePool): Promise<void> {
  const { rows } = await db.query<{ atOnce: boolean }>(
    `select to_regproc('pg_stat_force_next_flush') is not null as "atOnce"`,
  )
  if (rows[0]!.atOnce) return void (await db.query('select pg_stat_force_next_flush()'))
  // Before 15 another process counts what it is told, as soon as it comes to that, and what comes at a bad moment is lost. So something is read until it has been counted: then all of before has been.
  const scans = async (): Promise<number> => (await db.query<{ n: number }>(SCANS)).rows[0]!.n
  for (const before = await scans(); (await scans()) === before;) {
    await sleep(TOLD_MS)
    await db.query('select from sluice_migration')
    await sleep(TOLD_MS)
  }
}

const SCANS = `select coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::int as n from pg_stat_user_tables where relname = 'sluice_migration'`

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
 * Waits until all has ended that runs on the server, other tests' too, in whatever database: what was written since the oldest of them began would be taken for unseen, and what hangs on it
 * looked at, or judged again.
 */
export async function othersEnded(db: DatabasePool): Promise<void> {
  const own = (await db.query<{ own: string }>('select pg_current_xact_id()::text as own')).rows[0]!.own
  const older = 'select pg_snapshot_xmin(pg_current_snapshot()) <= $1::text::xid8 as still'
  while ((await db.query<{ still: boolean }>(older, [own])).rows[0]!.still) await sleep(20)
}

/** How many rows and index entries are looked at while `act` runs, when all else has ended. */
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
