/**
 * Brings a schema to the state that this version needs, or says that it is not in that state.
 *
 * Each migration runs in a transaction of its own, which also records it. A migration that fails leaves nothing behind,
 * and the next run continues with it. With one transaction for all migrations, the lock that keeps readers out of
 * `record` for an instant would be held for hours, while an index on a full table is built. The table that records
 * migrations is made in the first migration's transaction, so a schema that is refused is not touched.
 *
 * A run holds the advisory lock of the AppView's own migrator (kysely's), so that two migrators, of Sluice or of the
 * AppView, never work at the same time. kysely's `Migrator` itself is not used: it makes its tables outside of the
 * transaction, and when it is given a transaction, it unlocks in a `finally` that hides the error of the migration.
 */
import { Client, DatabaseError } from 'pg'
import type { ClientBase } from 'pg'
import { FatalError } from '@sluice/runtime/errors.ts'
import { classify } from './errors.ts'
import { MIGRATIONS } from './migrations/list.ts'
import type { Migration } from './migrations/migration.ts'
import { assertSchemaName } from './pool.ts'
import type { DatabasePool } from './pool.ts'
import { assertOwnSession, backendPid } from './pooler.ts'
import { assertEncoding, assertServerVersion } from './server-version.ts'
import { MIGRATION_SETTINGS } from './session-settings.ts'

/** What `migrate` did. */
export interface MigrationReport {
  /** Names of the migrations that it applied, in order; none when the schema was up to date. */
  applied: string[]
}

/**
 * The longest wait for a connection, as in a pool. A server, or a proxy before it, may accept the connection and then
 * say nothing. Without a limit a daemon would wait at its start for ever.
 */
const CONNECT_MS = 10_000
/** The lock that kysely's migrator takes (its `LOCK_ID`), per database. */
const MIGRATOR_LOCK = '3853314791062309107'
/** How long to wait for another migrator to finish. */
const MIGRATOR_LOCK_MS = 300_000
/**
 * How long to wait for the lock of a table. Everybody who asks for the table later waits behind us, so this is short.
 */
const TABLE_LOCK_MS = 5_000

/** A migration that is only SQL, with which a collection makes its own tables. */
export interface MigrationScript {
  /** Unique among all; never changed once released. */
  name: string
  sql: string
}

/**
 * Applies the pending migrations: our own first, then `scripts` in order. It may be repeated, and run in several
 * processes at once. Where something is pending, it needs a role that may create in the database and owns the schema's
 * tables; otherwise one that may read `sluice_migration`.
 * @throws TransientError (a table is locked, the server is away): try again; FatalError: the message says what to do
 */
export async function migrate(
  url: string,
  schema: string,
  scripts: readonly MigrationScript[] = [],
): Promise<MigrationReport> {
  assertSchemaName(schema)
  const migrations = withScripts(scripts)
  for (let attempt = 1; ; attempt++) {
    try {
      return { applied: await migrateOnce(url, schema, migrations) }
    } catch (error) {
      if (!isRace(error) || attempt === RACES) throw classify(error, `migrating schema "${schema}"`)
    }
  }
}

/**
 * Whether the error comes from a race with the AppView's migrator, which makes the schema and its own two tables before
 * it takes the lock. When both start at the same moment, one of them fails because the other has just made the same
 * schema, table or object. The error is a duplicate of one of these, or a unique violation in the system's tables.
 */
function isRace(error: unknown): boolean {
  return error instanceof DatabaseError && ['42P06', '42P07', '42710', '23505'].includes(error.code ?? '')
}
const RACES = 4

/** @throws FatalError when two migrations have the same name: the database would count the second as applied */
function withScripts(scripts: readonly MigrationScript[]): readonly Migration[] {
  const own = scripts.map(({ name, sql }) => ({
    name,
    up: async (client: ClientBase) => void (await client.query(sql)),
  }))
  const migrations: Migration[] = [...MIGRATIONS, ...own]
  const names = migrations.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw new FatalError(`two migrations are named ${twice}: give each its own name`)
  return migrations
}

async function migrateOnce(url: string, schema: string, migrations: readonly Migration[]): Promise<string[]> {
  const client = new Client({
    connectionString: url,
    application_name: 'sluice-migrate',
    keepAlive: true,
    connectionTimeoutMillis: CONNECT_MS,
  })
  client.on('error', () => {}) // the statement that waits gets the error
  try {
    await client.connect()
    await client.query(MIGRATION_SETTINGS)
    await assertOwnSession(client, await backendPid(client), url)
    await assertServerVersion(client)
    await assertEncoding(client)
    const applied = await applyPending(client, schema, migrations)
    return applied
  } finally {
    await client.end() // ends an open transaction too
  }
}

async function applyPending(client: ClientBase, schema: string, migrations: readonly Migration[]): Promise<string[]> {
  // The lock is released when the connection ends.
  await client.query(`set lock_timeout to ${MIGRATOR_LOCK_MS}`)
  await client.query(`select pg_advisory_lock(${MIGRATOR_LOCK})`)
  await client.query(`set lock_timeout to ${TABLE_LOCK_MS}`)
  const searchPath = `set local search_path to "${schema}", public`
  await client.query('begin')
  await ensureSchema(client, schema)
  await client.query(searchPath)
  await ensureRecord(client, schema)
  const { rows } = await client.query<{ name: string }>('select name from sluice_migration')
  const pending = pendingOf(migrations, rows)
  for (const migration of pending) {
    await migration.up(client, schema)
    await client.query(searchPath)
    await client.query('insert into sluice_migration (name, "appliedAt") values ($1, $2)', [
      migration.name,
      new Date().toISOString(),
    ])
    await client.query('commit; begin')
    await client.query(searchPath)
  }
  await client.query('commit')
  return pending.map(({ name }) => name)
}

/** CREATE SCHEMA IF NOT EXISTS asks for a privilege on the database even when the schema exists. */
async function ensureSchema(client: ClientBase, schema: string): Promise<void> {
  const { rowCount } = await client.query('select from pg_namespace where nspname = $1', [schema])
  if (rowCount === 0) await client.query(`create schema "${schema}"`)
}

/** CREATE TABLE IF NOT EXISTS likewise: a role that may only read and write is enough where nothing is pending. */
async function ensureRecord(client: ClientBase, schema: string): Promise<void> {
  const { rowCount } = await client.query('select from pg_class where oid = to_regclass($1)', [recordOf(schema)])
  if (rowCount === 0)
    await client.query('create table sluice_migration (name varchar primary key, "appliedAt" varchar not null)')
}

/** The table that records the migrations of a schema. */
function recordOf(schema: string): string {
  return `"${schema}".sluice_migration`
}

/**
 * The migrations that are not recorded yet. Recorded migrations of a newer version are ignored: migrations only add
 * things.
 */
function pendingOf(migrations: readonly Migration[], recorded: readonly { name: string }[]): Migration[] {
  const names = new Set(recorded.map(({ name }) => name))
  return migrations.filter(({ name }) => !names.has(name))
}

/** The names of the migrations that the pool's schema still needs. */
export async function pendingMigrations(
  pool: DatabasePool,
  scripts: readonly MigrationScript[] = [],
): Promise<string[]> {
  const table = recordOf(pool.schema)
  const { rowCount } = await pool.query('select from pg_class where oid = to_regclass($1)', [table])
  const { rows } = rowCount === 0 ? { rows: [] } : await pool.query<{ name: string }>(`select name from ${table}`)
  return pendingOf(withScripts(scripts), rows).map(({ name }) => name)
}

/**
 * @throws FatalError when migrations are pending (the message names the command), the server is too old, or the
 * database
 *   cannot hold every text
 */
export async function assertMigrated(pool: DatabasePool, scripts: readonly MigrationScript[] = []): Promise<void> {
  await assertServerVersion(pool)
  await assertEncoding(pool)
  const pending = await pendingMigrations(pool, scripts)
  if (pending.length === 0) return
  throw new FatalError(
    `schema "${pool.schema}" is not ready: ${pending.length} migrations are pending (${pending.join(', ')}). ` +
      `Next: run \`sluice migrate\`, and check DB_POSTGRES_SCHEMA if you did`,
  )
}
