/**
 * Finds out whether text sorts by its bytes in a database.
 *
 * Sluice reads ranges of URIs (`did` to `did`, `from` to `to` of a resync), and the AppView pages by `sortAt`. Both
 * need byte order, which is the order of record paths in a repository. The order of a language (en_US and the like)
 * puts `_` and `-` elsewhere, so ranges would hold the wrong rows. It also makes every index on text slower.
 */
import type { QueryResult, QueryResultRow } from 'pg'
import type { DatabasePool } from './pool.ts'

/** `bytewise` is the answer. When it is false, `advice` tells the operator what is wrong and what to do. */
export type TextOrder = { bytewise: true; collation: string } | { bytewise: false; collation: string; advice: string }

const known = new WeakMap<DatabasePool, boolean>()

/** Whether text sorts by its bytes in the pool's schema. Each pool is asked once. Errors are classified. */
export async function sortsByBytes(db: DatabasePool): Promise<boolean> {
  let answer = known.get(db)
  if (answer === undefined) known.set(db, (answer = (await textOrder(db, db.schema)).bytewise))
  return answer
}

interface TextColumns {
  /**
   * The name of the database when the collation is the database's default; null when it was given to single columns.
   */
  database: string | null
  collation: string
  /** PostgreSQL's letter for the provider: c (libc), i (ICU), b (builtin). */
  provider: string
  locale: string | null
  column: string
}

interface Queries {
  query<T extends QueryResultRow>(text: string, values: unknown[]): Promise<QueryResult<T>>
}

/** Looks at every text column of the schema; while the schema is empty, at the database alone. */
export async function textOrder(db: Queries, schema: string): Promise<TextOrder> {
  const { rows } = await db.query<TextColumns>(COLLATIONS, [schema])
  const found = rows.map(nameOf).join(', ')
  const wrong = rows.find((columns) => !isBytewise(columns))
  if (wrong === undefined) return { bytewise: true, collation: found }
  return { bytewise: false, collation: found, advice: adviceFor(wrong) }
}

/**
 * C and POSIX compare bytes. Every C.UTF-8, of whatever provider, and the builtin PG_UNICODE_FAST compare code points,
 * whose order is that of their UTF-8 bytes. ICU never compares bytes.
 */
function isBytewise({ provider, locale }: TextColumns): boolean {
  if (provider === 'b') return true
  return provider === 'c' && /^(C|POSIX|C\.UTF-?8)$/i.test(locale ?? '')
}

function nameOf({ provider, locale, collation }: TextColumns): string {
  return `${locale ?? collation} (${{ c: 'libc', i: 'ICU', b: 'builtin' }[provider] ?? provider})`
}

function adviceFor(columns: TextColumns): string {
  const { database, collation, column } = columns
  if (database === null) {
    return (
      `column ${column} has the collation "${collation}", which does not sort by bytes: ` +
      `alter table … alter column … type varchar collate "C" (rewrites its indexes)`
    )
  }
  return (
    `database "${database}" sorts text as ${nameOf(columns)}, not by bytes, so ranges of URIs would hold the wrong rows. ` +
    `A database keeps its collation for life: make a new one with ` +
    `createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8 (or --locale-provider=builtin --builtin-locale=C.UTF-8 ` +
    `from PostgreSQL 17 on) and move the data with pg_dump and pg_restore`
  )
}

/**
 * Some columns of pg_database and pg_collation have other names since 15 and 17. to_jsonb reads whichever name is
 * there. Before 15 a database has no provider of its own: its provider is libc.
 */
const COLLATIONS = `
with own as (
  select datname, datcollate, to_jsonb(d) as facts from pg_database d where datname = current_database()
), columns as (
  select a.attcollation as oid, min(c.relname || '.' || a.attname) as "column"
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
   where c.relnamespace = (select oid from pg_namespace where nspname = $1) and c.relkind = 'r' and a.attcollation <> 0
   group by a.attcollation
  union select 100, ''
)
select case when l.collprovider = 'd' then own.datname end as database,
       l.collname as collation,
       case when l.collprovider = 'd' then coalesce(own.facts ->> 'datlocprovider', 'c') else l.collprovider::text end as provider,
       case when l.collprovider = 'd' and coalesce(own.facts ->> 'datlocprovider', 'c') = 'c' then own.datcollate
            when l.collprovider = 'd' then coalesce(own.facts ->> 'datlocale', own.facts ->> 'daticulocale')
            when l.collprovider = 'c' then l.collcollate
            else coalesce(to_jsonb(l) ->> 'colllocale', to_jsonb(l) ->> 'colliculocale', l.collcollate) end as locale,
       max(columns."column") as "column"
  from columns
  join pg_collation l on l.oid = columns.oid
  cross join own
 group by 1, 2, 3, 4
 order by 1 nulls last, 2`
