/**
 * The AppView's schema: made in an empty schema, recognised in one that the AppView's own migrator made.
 *
 * Recognised means by content: its tables, columns and constraints are compared with a fresh copy of ours, made in a
 * scratch schema that is rolled back. What is there beyond ours may stay; a missing index or a changed view does not
 * stop us from writing right rows. Nothing of an adopted schema is touched here.
 */
import type { ClientBase } from 'pg'
import { FatalError } from '@sluice/runtime/errors.ts'
import { APPVIEW_MIGRATIONS, APPVIEW_RELEASE, migratorTables } from '../appview/migrator-state.ts'
import { APPVIEW_TABLES, appviewTables } from '../appview/schema.ts'
import { compareCatalogs, readCatalog } from '../catalog.ts'
import type { Catalog } from '../catalog.ts'
import type { Migration } from './migration.ts'

export const appview: Migration = {
  name: '0001-appview',
  async up(client, schema) {
    await client.query('create extension if not exists pg_trgm with schema public')
    if (await hasAppViewTables(client, schema)) await adopt(client, schema)
    else await client.query(appviewTables)
    await recordMigrations(client)
  },
}

async function hasAppViewTables(client: ClientBase, schema: string): Promise<boolean> {
  const { rowCount } = await client.query(
    'select from pg_class where relnamespace = quote_ident($1::text)::regnamespace and relname = any($2::text[])',
    [schema, APPVIEW_TABLES],
  )
  return rowCount! > 0
}

/** An AppView that starts on this database finds its migrations applied, and does nothing. */
async function recordMigrations(client: ClientBase): Promise<void> {
  await client.query(migratorTables)
  await client.query(
    'insert into kysely_migration (name, "timestamp") select unnest($1::text[]), $2 on conflict do nothing',
    [APPVIEW_MIGRATIONS, new Date().toISOString()],
  )
}

/** @throws FatalError when the schema is older, newer or of another make, saying what to do */
async function adopt(client: ClientBase, schema: string): Promise<void> {
  const recorded = await recordedMigrations(client)
  const missing = APPVIEW_MIGRATIONS.filter((name) => !recorded.includes(name))
  if (recorded.length > 0 && missing.length > 0) {
    throw new FatalError(
      `schema "${schema}" is that of an older AppView: it lacks ${missing.length} of its migrations, the first is ${missing[0]}. ` +
        `Nothing was changed. Next: start ${APPVIEW_RELEASE} on it once, so that its migrator brings it up to date, then migrate again`,
    )
  }
  const found = await readCatalog(client, schema)
  const expected = await freshCatalog(client, schema)
  const { missing: lacking, different } = compareCatalogs(expected, found)
  const wrong = [...lacking.map((fact) => `no ${fact}`), ...different].filter(
    (fact) => REQUIRED.test(fact) && !MENDED.test(fact),
  )
  if (wrong.length === 0) return
  const unknown = recorded.filter((name) => !APPVIEW_MIGRATIONS.includes(name))
  throw new FatalError(
    `schema "${schema}" has tables of the AppView, but not as ${APPVIEW_RELEASE} makes them: ${wrong.slice(0, MAX_SHOWN).join('; ')}` +
      (wrong.length > MAX_SHOWN ? ` and ${wrong.length - MAX_SHOWN} more differences` : '') +
      `. Nothing was changed. Next: ${unknown.length > 0 ? `it is newer (${unknown.join(', ')}): use a version of Sluice that knows it` : 'mend these, or name another schema in DB_POSTGRES_SCHEMA'}`,
  )
}

const MAX_SHOWN = 10
/** What our rows need to be right. */
const REQUIRED = /^(no )?(relation \w+: table|column|constraint|sequence)/
/** What a later migration of ours brings into order. */
const MENDED = /^(column notification\.id|sequence notification_id_seq): /

async function recordedMigrations(client: ClientBase): Promise<string[]> {
  const { rows: tables } = await client.query(`select from pg_class where oid = to_regclass('kysely_migration')`)
  if (tables.length === 0) return []
  const { rows } = await client.query<{ name: string }>('select name from kysely_migration order by name')
  return rows.map(({ name }) => name)
}

const SCRATCH = 'sluice_adoption_check'

/** What our script makes on this very server, so that both sides are printed by the same PostgreSQL. */
async function freshCatalog(client: ClientBase, schema: string): Promise<Catalog> {
  await client.query(`savepoint scratch; create schema ${SCRATCH}; set local search_path to ${SCRATCH}, public`)
  await client.query(appviewTables)
  const catalog = await readCatalog(client, SCRATCH)
  await client.query('rollback to savepoint scratch; release savepoint scratch')
  await client.query(`set local search_path to ${client.escapeIdentifier(schema)}, public`)
  return catalog
}
