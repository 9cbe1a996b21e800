/**
 * The state of PostgreSQL for an operator: tables, sequences, indexes, vacuum, sessions. It is read from the system's
 * own views, in a few milliseconds whatever the size of the tables; row counts are the estimates of the statistics.
 */
import { tableScripts } from '@sluice/collections/collections.ts'
import { textOrder } from '@sluice/database/collation.ts'
import { pendingMigrations } from '@sluice/database/migrate.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { bulkPhase } from '@sluice/indexing/bulk/phase.ts'
import { readMissingIndexes, type MissingIndex } from './index-state.ts'
import { readOverdue, type OverdueState } from './overdue-state.ts'
import { measureRoundTrip, type RoundTrip } from './round-trip.ts'
import { readBlocked, readLongTransactions, type BlockedState, type SessionState } from './session-state.ts'
import { readSequences, readTables, type SequenceState, type TableState } from './table-state.ts'

export interface PostgresState extends RoundTrip {
  version: string
  schema: string
  database: string
  bytes: number
  isReadOnly: boolean
  /**
   * The shared memory of the server. `hugePages`: how many huge pages would hold it; -1: huge pages cannot be used, or
   * the number is not known (before version 15). `inHugePages`: whether it is in huge pages; undefined: not known
   * (before version 17). `asksForHugePages`: false when its settings turn them off.
   */
  sharedMemory: { bytes: number; hugePages: number; inHugePages: boolean | undefined; asksForHugePages: boolean }
  connections: { used: number; max: number; ours: { name: string; connections: number }[] }
  /**
   * False: the activity of sessions of other roles is hidden from our role, so their long transactions and waits are
   * not seen.
   */
  seesAllSessions: boolean
  role: string
  pendingMigrations: string[]
  /** A first load is under way: its indexes and counters are made at its end. */
  bulkPhase: string | undefined
  /**
   * How late the work beside the data path is; undefined: its tables do not exist yet, or another session holds them.
   */
  overdue: OverdueState | undefined
  /** Why text does not sort by its bytes; undefined when it does. */
  wrongTextOrder: string | undefined
  tables: TableState[]
  sequences: SequenceState[]
  /** Indexes that are missing or not valid, with the statements that make them. */
  missingIndexes: MissingIndex[]
  /** Transactions that have been open for longer than a minute. */
  longTransactions: SessionState[]
  /** Sessions that have waited for a lock for some seconds, with the sessions that hold it. */
  blocked: BlockedState[]
}

const LONG_SECONDS = 60
const BLOCKED_SECONDS = 5

/**
 * Runs one query after the other, over one connection, so that it works also on a server that is nearly out of
 * connections.
 * @throws TransientError, FatalError
 */
export async function inspectPostgres(
  db: DatabasePool,
  { longSeconds = LONG_SECONDS, blockedSeconds = BLOCKED_SECONDS } = {},
): Promise<PostgresState> {
  const { schema } = db
  const roundTrip = await measureRoundTrip(async () => (await db.query<{ ms: number }>(CLOCK)).rows[0]!.ms)
  const { rows } = await db.query<Server>(SERVER)
  const { used, max, sharedBytes, hugePages, hugePagesStatus, hugePagesSetting, ...server } = rows[0]!
  const ours = await db.query<{ name: string; connections: number }>(OURS)
  const longTransactions = await readLongTransactions(db, longSeconds)
  const blocked = await readBlocked(db, blockedSeconds)
  const tables = await readTables(db)
  const sequences = await readSequences(db)
  const missingIndexes = await readMissingIndexes(db)
  const pending = await pendingMigrations(db, tableScripts())
  const order = await textOrder(db, schema)
  const bulk = pending.length > 0 ? undefined : await bulkPhase(db)
  const overdue = pending.length > 0 ? undefined : await readOverdue(db)
  return {
    ...server,
    schema,
    ...roundTrip,
    sharedMemory: {
      bytes: sharedBytes,
      hugePages,
      inHugePages: hugePagesStatus === 'on' ? true : hugePagesStatus === 'off' ? false : undefined,
      asksForHugePages: hugePagesSetting !== 'off',
    },
    connections: { used, max, ours: ours.rows },
    pendingMigrations: pending,
    wrongTextOrder: order.bytewise ? undefined : order.advice,
    tables,
    sequences,
    bulkPhase: bulk,
    overdue,
    missingIndexes: pending.length > 0 || bulk !== undefined ? [] : missingIndexes,
    longTransactions,
    blocked,
  }
}

interface Server {
  version: string
  database: string
  bytes: number
  isReadOnly: boolean
  seesAllSessions: boolean
  role: string
  sharedBytes: number
  hugePages: number
  hugePagesStatus: string | null
  hugePagesSetting: string
  used: number
  max: number
}

/**
 * A statement of its own, by which the round trip and the clock are measured: the size of a database takes the server
 * long, since it asks for the size of each of its files.
 */
const CLOCK = 'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms'

/**
 * Without pg_read_all_stats the `backend_type` of another role's session is hidden, but its database and user are not:
 * so sessions are counted by these. `numbackends` of pg_stat_database would count autovacuum and parallel workers too,
 * which take none of max_connections.
 */
const SERVER = `
  select current_setting('server_version') as version, current_database() as database,
         pg_database_size(current_database()) as bytes,
         pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool as "isReadOnly",
         pg_has_role(current_user, 'pg_read_all_stats', 'usage') as "seesAllSessions", current_user::text as role,
         coalesce(pg_size_bytes(current_setting('shared_memory_size', true)), 0)::float8 as "sharedBytes",
         coalesce(current_setting('shared_memory_size_in_huge_pages', true)::int, -1) as "hugePages",
         current_setting('huge_pages_status', true) as "hugePagesStatus",
         current_setting('huge_pages') as "hugePagesSetting",
         (select count(*)::int from pg_stat_activity
           where backend_type = 'client backend' or (backend_type is null and usesysid is not null and datid is not null)) as used,
         current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0) as max`

const OURS = `
  select application_name as name, count(*)::int as connections from pg_stat_activity
   where datname = current_database() and application_name like 'sluice-%' and application_name <> 'sluice-cli'
   group by 1 order by 1`
