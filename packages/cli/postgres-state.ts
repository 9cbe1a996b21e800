/**
 * The state of PostgreSQL for an operator: tables, sequences, indexes, vacuum, sessions. It is read from the system's
 * own views, in a few milliseconds whatever the size of the tables; row counts are the estimates of the statistics.
 */
import { tableScripts } from '@sluice/collections/collections.ts'
import { appviewTables } from '@sluice/database/appview/schema.ts'
import { textOrder } from '@sluice/database/collation.ts'
import { pendingMigrations } from '@sluice/database/migrate.ts'
import { UNREAD_INDEXES } from '@sluice/database/migrations/0010-unread-indexes.ts'
import { OWN_STATEMENTS } from '@sluice/database/migrations/list.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { bulkPhase } from '@sluice/indexing/bulk/phase.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { readOverdue, type OverdueState } from './overdue-state.ts'
import { measureRoundTrip, type RoundTrip } from './round-trip.ts'

export interface TableState {
  name: string
  /** Estimated. */
  rows: number
  bytes: number
  deadRows: number
  /** How many dead rows make autovacuum begin on this table. */
  vacuumAt: number
  autovacuum: boolean
  lastVacuum: string | null
}

export interface SequenceState {
  name: string
  lastValue: number
  maxValue: string
  /** From 0 to 1. */
  used: number
}

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

export interface MissingIndex {
  name: string
  statement: string
  invalid: boolean
  /** The process that is building the index at this moment. The index is not valid until the build is done. */
  builtBy: number | undefined
}

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
  /**
   * Transactions that have been open for longer than a minute: vacuum cannot remove rows that died after they began.
   * Sessions that vacuum, or build an index concurrently, are left out.
   */
  longTransactions: SessionState[]
  /**
   * Sessions that have waited for a lock for some seconds, with the sessions that hold it. Two kinds are left out.
   * Sessions that vacuum or build an index concurrently: such a build normally waits for old snapshots, and nobody
   * waits for it. Sessions that wait for an advisory lock: they wait for their turn behind another migration or a
   * batch, and if that one is blocked, it is listed itself.
   */
  blocked: BlockedState[]
}

export type BlockedState = SessionState & { by: HolderState[] }

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
  const longTransactions = (await db.query<SessionState>(SESSIONS, [longSeconds])).rows
  const blocked = (await db.query<BlockedState>(BLOCKED, [blockedSeconds])).rows
  const tables = await readTables(db)
  const sequences = (await db.query<SequenceState>(SEQUENCES, [schema])).rows
  const indexes = (await db.query<IndexState>(INDEXES, [schema])).rows
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
    missingIndexes: pending.length > 0 || bulk !== undefined ? [] : missingOf(indexes, schema),
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

interface IndexState {
  name: string
  valid: boolean
  builtBy: number | null
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

/** How long to wait for the exact size of a table. To read it needs a lock, which a migration may hold. */
const SIZE_LOCK_MS = 300

/**
 * The tables with their exact sizes. While another session holds one of them, the sizes are those of the last vacuum:
 * this must work when something is stuck.
 */
async function readTables(db: DatabasePool): Promise<TableState[]> {
  const read = async (size: string, settings: string): Promise<TableState[]> =>
    transaction(db, { doing: 'looking at the tables', attempts: 1 }, async (tx) => {
      await tx.query(settings)
      return (await tx.query<TableState & Record<string, unknown>>(tablesStatement(size), [db.schema])).rows
    })
  try {
    return await read('pg_total_relation_size(c.oid)', `set local lock_timeout to ${SIZE_LOCK_MS}`)
  } catch (error) {
    if (!(error instanceof TransientError)) throw error
    return read(PAGES, 'set local lock_timeout to 0')
  }
}

const PAGES = `(select sum(r.relpages)::bigint * 8192 from pg_class r
   where r.oid = c.oid or r.oid = c.reltoastrelid or r.oid in (select indexrelid from pg_index where indrelid = c.oid))`

/** Settings of a table win over the server's. `reltuples` is -1 before the first vacuum. */
const tablesStatement = (size: string): string => `
  select s.relname as name, greatest(c.reltuples, s.n_live_tup, 0)::bigint as rows,
         ${size} as bytes, s.n_dead_tup as "deadRows",
         (coalesce(o.options->>'autovacuum_vacuum_threshold', current_setting('autovacuum_vacuum_threshold'))::float8
           + coalesce(o.options->>'autovacuum_vacuum_scale_factor', current_setting('autovacuum_vacuum_scale_factor'))::float8
             * greatest(c.reltuples, 0))::float8 as "vacuumAt",
         current_setting('autovacuum')::bool and coalesce(o.options->>'autovacuum_enabled', 'true')::bool as autovacuum,
         greatest(s.last_vacuum, s.last_autovacuum)::text as "lastVacuum"
    from pg_stat_user_tables s
    join pg_class c on c.oid = s.relid
    cross join lateral (
      select jsonb_object_agg(split_part(option, '=', 1), split_part(option, '=', 2)) as options
        from unnest(c.reloptions) as option) o
   where s.schemaname = $1
   order by bytes desc, name`

const SEQUENCES = `
  select sequencename as name, coalesce(last_value, 0)::float8 as "lastValue",
         least(max_value, coalesce(owner.max, max_value))::text as "maxValue",
         coalesce(last_value, 0)::float8 / least(max_value, coalesce(owner.max, max_value))::float8 as used
    from pg_sequences s
    left join lateral (
      select case a.atttypid when 'int4'::regtype then 2147483647 when 'int2'::regtype then 32767 end::bigint as max
        from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
       where d.objid = format('%I.%I', s.schemaname, s.sequencename)::regclass and d.deptype in ('a', 'i') and d.refobjsubid > 0
       limit 1) owner on true
   where schemaname = $1
   order by used desc`

/**
 * Without pg_read_all_stats the build of another role does not show its index: any index that is not valid may be the
 * one it builds.
 */
const INDEXES = `
  select c.relname as name, i.indisvalid as valid,
         (select min(p.pid) from pg_stat_progress_create_index p
           where p.datname = current_database() and coalesce(p.index_relid, i.indexrelid) = i.indexrelid) as "builtBy"
    from pg_index i join pg_class c on c.oid = i.indexrelid
   where c.relnamespace = to_regnamespace(quote_ident($1::text))`

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

const OURS = `
  select application_name as name, count(*)::int as connections from pg_stat_activity
   where datname = current_database() and application_name like 'sluice-%' and application_name <> 'sluice-cli'
   group by 1 order by 1`

/**
 * The indexes that should exist, by name, with the statement that makes each: those of the AppView's script without
 * those that a migration drops, and our own.
 */
const STATEMENTS: ReadonlyMap<string, string> = new Map(
  [
    ...`${appviewTables}\n${OWN_STATEMENTS}`.matchAll(
      /^create ((?:unique )?)index (?:if not exists )?(\w+) on ([^;]+);/gm,
    ),
  ]
    .filter(([, , name]) => !UNREAD_INDEXES.includes(name!))
    .map(([, unique, name, on]) => [name!, `create ${unique}index ${name} on ${on!.replaceAll(/\s+/g, ' ')}`]),
)

function missingOf(found: readonly IndexState[], schema: string): MissingIndex[] {
  const byName = new Map(found.map((index) => [index.name, index]))
  return [...STATEMENTS].flatMap(([name, statement]) => {
    const index = byName.get(name)
    if (index?.valid) return []
    const concurrently = statement.replace(/ index (\w+) on /, ` index concurrently $1 on ${schema}.`)
    return [{ name, statement: concurrently, invalid: index !== undefined, builtBy: index?.builtBy ?? undefined }]
  })
}
