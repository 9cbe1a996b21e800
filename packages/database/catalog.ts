/**
 * A schema as a set of facts, so that two schemas can be compared: one that Sluice made and one that the AppView's
 * migrator made.
 *
 * A fact is a name (`column like.via`) and its definition as PostgreSQL prints it (`character varying null`). Schema
 * names are left out, and the order of columns does not count. Facts of different servers are comparable only within
 * one major version.
 */
import type { ClientBase } from 'pg'

/** Name of a fact → its definition. */
export type Catalog = ReadonlyMap<string, string>

/**
 * How a catalog differs from another: facts that it lacks, has otherwise, or has in addition. Each entry is one line
 * for a person.
 */
export interface CatalogDifference {
  missing: string[]
  different: string[]
  extra: string[]
}

/**
 * Reads the facts of one schema: relations with their options, columns, constraints, indexes, sequences, views,
 * functions, types and triggers. Must run inside a transaction: it sets `search_path` for the rest of it, since
 * PostgreSQL prints names relative to `search_path`.
 */
export async function readCatalog(client: ClientBase, schema: string): Promise<Catalog> {
  await client.query(`set local search_path to ${client.escapeIdentifier(schema)}, public`)
  const facts = new Map<string, string>()
  for (const text of FACTS) {
    const { rows } = await client.query<{ name: string; definition: string }>(text, [schema])
    for (const { name, definition } of rows) facts.set(name, definition)
  }
  return facts
}

/** What is wrong with `actual`, seen from `expected`. */
export function compareCatalogs(expected: Catalog, actual: Catalog): CatalogDifference {
  const missing: string[] = []
  const different: string[] = []
  for (const [name, definition] of expected) {
    const found = actual.get(name)
    if (found === undefined) missing.push(`${name}: ${definition}`)
    else if (found !== definition) different.push(`${name}: ${found} instead of ${definition}`)
  }
  const extra = [...actual]
    .filter(([name]) => !expected.has(name))
    .map(([name, definition]) => `${name}: ${definition}`)
  return { missing, different, extra }
}

/**
 * PostgreSQL 18 stores NOT NULL as named constraints too (`contype` 'n'); they say nothing that the columns do not say.
 * `pg_get_indexdef` prints the table's schema whatever the `search_path` is; the replace() removes it.
 */
const FACTS: readonly string[] = [
  `select 'relation ' || c.relname as name,
          case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view' when 'm' then 'materialized view' else c.relkind::text end
            || case c.relpersistence when 'p' then '' else ' ' || c.relpersistence::text end
            || coalesce(': ' || case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end, '') as definition
     from pg_class c where c.relnamespace = quote_ident($1::text)::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')`,

  `select 'options ' || c.relname as name, array_to_string(array(select unnest(c.reloptions) order by 1), ', ') as definition
     from pg_class c where c.relnamespace = quote_ident($1::text)::regnamespace and c.reloptions is not null`,

  `select 'column ' || c.relname || '.' || a.attname as name,
          format_type(a.atttypid, a.atttypmod)
            || case when a.attnotnull then ' not null' else ' null' end
            || case when a.attgenerated <> '' then ' generated' else '' end
            || case when a.attidentity <> '' then ' identity' else '' end
            || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
            || coalesce((select ' collate ' || l.collname from pg_collation l where l.oid = a.attcollation and l.collname <> 'default'), '') as definition
     from pg_class c
     join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relnamespace = quote_ident($1::text)::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')`,

  `select 'constraint ' || c.relname || '.' || k.conname as name,
          pg_get_constraintdef(k.oid) || case when k.convalidated then '' else ' not valid' end as definition
     from pg_constraint k join pg_class c on c.oid = k.conrelid
    where k.connamespace = quote_ident($1::text)::regnamespace and k.contype <> 'n'`,

  `select 'index ' || c.relname as name,
          replace(pg_get_indexdef(i.indexrelid), ' ON ' || quote_ident($1::text) || '.', ' ON ')
            || case when i.indisvalid then '' else ' invalid' end as definition
     from pg_index i join pg_class c on c.oid = i.indexrelid
    where c.relnamespace = quote_ident($1::text)::regnamespace`,

  `select 'sequence ' || c.relname as name,
          format_type(s.seqtypid, null) || ' start ' || s.seqstart || ' by ' || s.seqincrement || ' up to ' || s.seqmax
            || coalesce((select ' of ' || d.refobjid::regclass || '.' || a.attname
                           from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                          where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i') and d.refobjsubid > 0), '') as definition
     from pg_sequence s join pg_class c on c.oid = s.seqrelid
    where c.relnamespace = quote_ident($1::text)::regnamespace`,

  `select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name, p.prosrc as definition
     from pg_proc p
    where p.pronamespace = quote_ident($1::text)::regnamespace
      and not exists (select from pg_depend d where d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e')`,

  `select 'type ' || t.typname as name,
          t.typtype::text || coalesce(' ' || (select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid), '') as definition
     from pg_type t where t.typnamespace = quote_ident($1::text)::regnamespace and t.typtype in ('e', 'd')`,

  `select 'trigger ' || c.relname || '.' || t.tgname as name, pg_get_triggerdef(t.oid) as definition
     from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where c.relnamespace = quote_ident($1::text)::regnamespace and not t.tgisinternal`,
]
