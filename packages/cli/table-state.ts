/** The tables of our schema and the sequences in it, as PostgreSQL's statistics and catalogues show them. */
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { TransientError } from '@sluice/runtime/errors.ts'

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

/** How long to wait for the exact size of a table. To read it needs a lock, which a migration may hold. */
const SIZE_LOCK_MS = 300

/**
 * The tables with their exact sizes. While another session holds one of them, the sizes are those of the last vacuum:
 * this must work when something is stuck.
 * @throws TransientError, FatalError
 */
export async function readTables(db: DatabasePool): Promise<TableState[]> {
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

/** The sequences, the one that is used up most first. @throws TransientError, FatalError */
export async function readSequences(db: DatabasePool): Promise<SequenceState[]> {
  return (await db.query<SequenceState>(SEQUENCES, [db.schema])).rows
}

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
