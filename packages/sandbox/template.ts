/** The template that every test's database is a clone of: the schema as our migrations make it. */
import { tableScripts } from '@sluice/collections/collections.ts'
import { migrate } from '@sluice/database/migrate.ts'
import type { Postgres } from './postgres.ts'

export const TEMPLATE = 'sluice_template'
/** The schema our tables live in, as an operator would name it in DB_POSTGRES_SCHEMA. */
export const SCHEMA = 'bsky'

export async function createTemplate(server: Postgres): Promise<void> {
  await migrateAll(await server.createDatabase(TEMPLATE))
}

/** One database without a template, as an indexer would set it up. */
export async function migrateAll(url: string): Promise<void> {
  await migrate(url, SCHEMA, tableScripts())
}
