/** What can be wrong with PostgreSQL. */
import { valuesOf } from '../daemon-state.ts'
import { bytes, count, duration, oneLine } from '../output.ts'
import type { PostgresState } from '../postgres-state.ts'
import type { HolderState } from '../session-state.ts'
import type { Finding, Limits, Rule } from './finding.ts'

/** Tables that every batch writes: when they swell, everything is slow. */
const HOT = ['record', 'like', 'post', 'follow', 'repost', 'feed_item', 'notification', 'post_agg', 'profile_agg', 'actor_sync', 'actor', 'label'] // prettier-ignore
/**
 * A shell has no escape for a single quote within single quotes: the quotes are closed, an escaped quote follows, and
 * they are opened again.
 */
const psql = (sql: string): string => `psql "$DB_POSTGRES_URL" -c '${sql.replaceAll("'", String.raw`'\''`)}'`

export const postgresAway: Rule = ({ postgres }) =>
  postgres?.away === undefined
    ? []
    : [
        {
          id: 'postgres-away',
          severity: 'broken',
          what: postgres.refuses ? 'PostgreSQL refuses us' : 'PostgreSQL does not answer',
          evidence: oneLine(postgres.away, 500),
          meaning:
            'The indexer waits, entries stay pending, and Redis fills up to its marks. Nothing is lost; it goes on by itself.',
          mend: postgres.refuses
            ? 'do what the message says; is DB_POSTGRES_URL right?'
            : 'start PostgreSQL, or correct DB_POSTGRES_URL; when it has no connection left: lower DB_POOL_SIZE, or raise max_connections',
        },
      ]

export const postgres: Rule = ({ postgres: look }, limits) => {
  const state = look?.state
  return state === undefined ? [] : CHECKS.flatMap((check) => check(state, limits))
}

type Check = (state: PostgresState, limits: Limits) => Finding[]

const slow: Check = ({ latencyMs }, { roundTripMs }) =>
  latencyMs < roundTripMs
    ? []
    : [
        {
          id: 'postgres-slow',
          severity: 'warning',
          what: 'PostgreSQL answers slowly',
          evidence: `${Math.round(latencyMs)} ms for a trivial statement`,
          meaning: 'Batches take longer than they should, and the lag grows when there is much to do.',
          mend: psql('select pid, state, wait_event, left(query, 80) from pg_stat_activity order by xact_start'),
        },
      ]

/** From this size of shared memory on, its page table takes 4 MB in each process. Measured at 9 GB. */
const LARGE_MEMORY = 2 * 1024 ** 3

const smallPages: Check = ({ sharedMemory: { bytes: size, hugePages, inHugePages, asksForHugePages } }) =>
  size < LARGE_MEMORY || hugePages <= 0 || inHugePages !== false
    ? []
    : [
        {
          id: 'postgres-small-pages',
          severity: 'warning',
          what: 'PostgreSQL has its shared memory in small pages',
          evidence: `huge_pages_status is off, and shared memory ${bytes(size)}`,
          meaning:
            'Whatever it looks up in its memory costs it more: with a large index, half as much CPU again and more.',
          mend: `on its machine: sysctl -w vm.nr_hugepages=${hugePages} (and in /etc/sysctl.d)${asksForHugePages ? '' : '; in postgresql.conf: huge_pages = try, which is off'}; then restart PostgreSQL`,
        },
      ]

const readOnly: Check = ({ isReadOnly, database }) =>
  isReadOnly
    ? [
        {
          id: 'postgres-read-only',
          severity: 'broken',
          what: 'PostgreSQL takes no writes',
          evidence: `${database} is a standby, or default_transaction_read_only is on`,
          meaning: 'The indexer waits until it can write again. Nothing is lost.',
          mend: `point DB_POSTGRES_URL at the primary; or ${psql(`begin read write; alter database ${database} reset default_transaction_read_only; commit`)}, and restart the indexer`,
        },
      ]
    : []

const collation: Check = ({ wrongTextOrder }) =>
  wrongTextOrder === undefined
    ? []
    : [
        {
          id: 'postgres-collation',
          severity: 'broken',
          what: 'PostgreSQL does not sort text by its bytes',
          evidence: wrongTextOrder.split(': ')[0]!,
          meaning: 'Ranges of URIs hold the wrong rows: the AppView pages wrongly, and every index on text is slower.',
          mend: wrongTextOrder,
        },
      ]

const connections: Check = ({ connections: { used, max, ours } }) =>
  used < max * 0.9
    ? []
    : [
        {
          id: 'postgres-connections',
          severity: 'warning',
          what: 'PostgreSQL is nearly out of connections',
          evidence: `${used} of ${max}; ours: ${ours.map(({ name, connections: n }) => `${name} ${n}`).join(', ') || 'none'}`,
          meaning: 'Who comes next is refused, the AppView too.',
          mend: 'lower DB_POOL_SIZE of the indexers, raise max_connections, or put a pooler in session mode between',
        },
      ]

const migrations: Check = ({ pendingMigrations }) =>
  pendingMigrations.length === 0
    ? []
    : [
        {
          id: 'migrations-pending',
          severity: 'broken',
          what: 'the schema is not what this version needs',
          evidence: `pending: ${pendingMigrations.join(', ')}`,
          meaning:
            'An indexer of this version does not start on it, unless it may migrate by itself (INDEXER_MIGRATE).',
          mend: 'sluice migrate',
        },
      ]

const indexes: Check = ({ missingIndexes, schema }) =>
  missingIndexes.map(({ name, statement, invalid, builtBy }) =>
    builtBy === undefined
      ? {
          id: 'index-missing',
          severity: 'broken',
          what: `the index ${name} is ${invalid ? 'not valid' : 'missing'}`,
          evidence: invalid ? `pg_index.indisvalid is false for ${schema}.${name}` : `there is no ${schema}.${name}`,
          meaning:
            'Statements that need it read whole tables: the indexer or the AppView becomes slower with every row.',
          mend: `${invalid ? `${psql(`drop index concurrently ${schema}.${name}`)}; ` : ''}${psql(statement)}`,
        }
      : {
          id: 'index-missing',
          severity: 'warning',
          what: `the index ${name} is being built`,
          evidence: `pid ${builtBy} is in pg_stat_progress_create_index, ${schema}.${name} is not valid yet`,
          meaning:
            'Statements that need it read whole tables until it is built. A concurrent build waits for every transaction that is older, and nobody waits for it.',
          mend: `wait, and do not drop it; how far it is: ${psql('select pid, phase, lockers_done, lockers_total, blocks_done, blocks_total from pg_stat_progress_create_index')}`,
        },
  )

const bulkLoad: Check = ({ bulkPhase }) =>
  bulkPhase === undefined
    ? []
    : [
        {
          id: 'bulk-load',
          severity: 'warning',
          what: 'a first load is not finished',
          evidence: `bulk_load says that it is ${bulkPhase}`,
          meaning:
            'Indexes are missing, and counters, verdicts on posts and who hears of them: the AppView must not read yet.',
          mend: 'sluice bulk finish',
        },
      ]

const sequences: Check = ({ sequences: all, schema }) =>
  all
    .filter(({ used }) => used > 0.8)
    .map(({ name, lastValue, maxValue, used }) => ({
      id: 'sequence-near-end',
      severity: 'broken',
      what: `the sequence ${name} runs out`,
      evidence: `at ${count(lastValue)} of ${maxValue} (${Math.round(used * 100)} %)`,
      meaning: 'At its end every insert into its table fails, and the indexer stands still.',
      mend: psql(`alter sequence ${schema}.${name} as bigint no maxvalue`),
    }))

const vacuum: Check = ({ tables, schema }) =>
  tables
    .filter(({ name }) => HOT.includes(name))
    .filter(({ autovacuum, deadRows, vacuumAt }) => !autovacuum || deadRows > Math.max(3 * vacuumAt, 50_000))
    .map(({ name, autovacuum, deadRows, vacuumAt, bytes: size, lastVacuum }) => ({
      id: 'vacuum-behind',
      severity: 'warning',
      what: autovacuum ? `autovacuum does not keep up with ${name}` : `autovacuum is off for ${name}`,
      evidence: `${count(deadRows)} dead rows in ${bytes(size)}, due at ${count(vacuumAt)}; last vacuumed ${lastVacuum?.slice(0, 19) ?? 'never'}`,
      meaning: 'The table and its indexes swell, statistics grow old, and statements become slow.',
      mend: autovacuum
        ? `${psql(`vacuum (analyze) ${schema}."${name}"`)}; then autovacuum_vacuum_cost_limit up, or autovacuum_max_workers`
        : psql(`alter table ${schema}."${name}" reset (autovacuum_enabled)`),
    }))

/** Five minutes. A batch takes seconds; a backup uses a snapshot for hours, and an operator should know of it. */
const LONG_SECONDS = 300

/** Programs whose work takes hours on a full index and ends by itself; when it is ended early, it begins anew. */
const MAINTENANCE = new Set(['sluice-migrate', 'sluice-bulk'])

/** The progress of their long steps. */
const PROGRESS =
  'select pid, phase, blocks_done as done, blocks_total as total from pg_stat_progress_create_index union all select pid, phase, heap_blks_scanned, heap_blks_total from pg_stat_progress_vacuum'

const wait = (applications: readonly string[]): string =>
  `wait, and do not end it; how far it is: ${psql(PROGRESS)}${applications.includes('sluice-bulk') ? '; sluice bulk status' : ''}`

const longTransactions: Check = ({ longTransactions: all }) =>
  all
    .filter(({ seconds }) => seconds > LONG_SECONDS)
    .map(({ pid, application, seconds, state, query }) => {
      const isOurs = MAINTENANCE.has(application)
      return {
        id: 'long-transaction',
        severity: 'warning',
        what: `a transaction ${isOurs ? 'of our own maintenance ' : ''}has been open for ${duration(seconds)}`,
        evidence: oneLine(`pid ${pid} (${application || 'no name'}), ${state}: ${query}`, 200),
        meaning: 'Vacuum can remove nothing that is younger, and whatever it has locked stays locked.',
        mend: isOurs ? wait([application]) : psql(`select pg_terminate_backend(${pid})`),
      }
    })

const lockWaits: Check = ({ blocked }) =>
  blocked.map(({ pid, application, by, query }) => {
    const others = by.filter((holder) => !holder.isUpkeep && !MAINTENANCE.has(holder.application))
    const isWanted = by.length > 0 && others.length === 0
    return {
      id: 'lock-waits',
      severity: isWanted ? 'warning' : 'broken',
      what: `${application || `pid ${pid}`} waits for a lock${isWanted ? ' of maintenance' : ''}`,
      evidence: oneLine(`pid ${pid} waits for ${by.map(holderName).join(', ') || 'somebody'}: ${query}`, 200),
      meaning: 'While a migration, a manual statement or a forgotten session holds a table, no batch is applied.',
      mend: isWanted
        ? wait(by.map((holder) => holder.application))
        : `look who it is, then end it: ${psql(`select pg_terminate_backend(${others[0]?.pid ?? pid})`)}`,
    }
  })

const holderName = ({ pid, application }: HolderState): string =>
  application === '' ? `${pid}` : `${pid} (${application})`

const CHECKS: readonly Check[] = [
  readOnly,
  migrations,
  collation,
  lockWaits,
  slow,
  smallPages,
  connections,
  indexes,
  bulkLoad,
  sequences,
  vacuum,
  longTransactions,
]

/** A connection pool that is too small, as reported by the indexers. */
export const poolStarved: Rule = ({ daemons }) =>
  valuesOf(daemons, 'sluice_database_connections')
    .filter(({ labels, value }) => labels.state === 'waiting' && value > 0)
    .map(({ url, value }) => ({
      id: 'pool-starved',
      severity: 'warning',
      what: 'an indexer waits for connections of its own pool',
      evidence: `${value} waiting at ${url}`,
      meaning: 'Lanes stand still for want of a connection, or statements take too long.',
      mend: 'raise DB_POOL_SIZE (one for each of INDEXER_CONCURRENCY transactions, and two), or look for slow statements',
    }))
