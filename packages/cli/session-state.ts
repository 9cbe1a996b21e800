/** Sessions of PostgreSQL that hold others up, or wait for them. */
import type { DatabasePool } from '@sluice/database/pool.ts'

export interface SessionState {
  pid: number
  application: string
  /** How long its transaction has been open, in seconds. */
  seconds: number
  state: string
  query: string
}

/** A session that holds the lock for which another one waits. */
export interface HolderState {
  pid: number
  application: string
  /**
   * The session vacuums, or builds an index concurrently. It ends by itself, and to end it early wastes the work that
   * it has done.
   */
  isUpkeep: boolean
}

export type BlockedState = SessionState & { by: HolderState[] }

/**
 * Transactions that have been open for so long, the oldest first: vacuum cannot remove rows that died after they began.
 * Sessions that vacuum, or build an index concurrently, are left out.
 * @throws TransientError, FatalError
 */
export async function readLongTransactions(db: DatabasePool, seconds: number): Promise<SessionState[]> {
  return (await db.query<SessionState>(SESSIONS, [seconds])).rows
}

/**
 * Sessions that have waited for a lock for so long, with the sessions that hold it. Two kinds are left out. Sessions
 * that vacuum or build an index concurrently: such a build normally waits for old snapshots, and nobody waits for it.
 * Sessions that wait for an advisory lock: they wait for their turn behind another migration or a batch, and if that
 * one is blocked, it is listed itself.
 * @throws TransientError, FatalError
 */
export async function readBlocked(db: DatabasePool, seconds: number): Promise<BlockedState[]> {
  return (await db.query<BlockedState>(BLOCKED, [seconds])).rows
}

const SESSION = `pid, application_name as application, extract(epoch from now() - xact_start)::float8 as seconds, state, left(query, 200) as query`

/**
 * Sessions that nobody should end. If a concurrent build is ended, it leaves an invalid index; if a vacuum is ended, it
 * begins anew, and it blocks nobody. A build that is not concurrent is not included: it keeps every writer of its table
 * out.
 */
const UPKEEP = `select pid from pg_stat_progress_create_index where command like '%CONCURRENTLY' union all select pid from pg_stat_progress_vacuum`

const SESSIONS = `
  select ${SESSION} from pg_stat_activity
   where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
     and xact_start < now() - make_interval(secs => $1) and pid not in (${UPKEEP})
   order by xact_start limit 20`

const BLOCKED = `
  select ${SESSION}, holders.by
    from pg_stat_activity w
    cross join lateral (
      select coalesce(jsonb_agg(jsonb_build_object('pid', h.pid, 'application', coalesce(a.application_name, ''),
               'isUpkeep', h.pid in (${UPKEEP}))), '[]') as by
        from unnest(pg_blocking_pids(w.pid)) as h(pid) left join pg_stat_activity a on a.pid = h.pid) holders
   where datname = current_database() and wait_event_type = 'Lock' and wait_event <> 'advisory'
     and query_start < now() - make_interval(secs => $1) and pid not in (${UPKEEP})
   order by query_start limit 20`
