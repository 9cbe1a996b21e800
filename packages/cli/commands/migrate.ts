/**
 * `sluice migrate`: brings the schema to the state that this version needs. It may be repeated, and run beside the
 * daemons.
 */
import { tableScripts } from '@sluice/collections/collections.ts'
import { migrate, pendingMigrations } from '@sluice/database/migrate.ts'
import { EXIT, examples, type Add } from '../cli.ts'
import type { Session } from '../session.ts'

export const addMigrate: Add = (cli, parent) => {
  parent
    .command('migrate')
    .description('apply the pending migrations of the database, each in a transaction of its own')
    .option('--check', 'change nothing: list what is pending, exit 1 when something is')
    .addHelpText(
      'after',
      examples(
        ['sluice migrate', 'apply what is pending'],
        ['sluice migrate --check', 'for a deployment: is the schema ready?'],
      ),
    )
    .action(({ check = false }: { check?: boolean }) => cli.run((session) => (check ? list(session) : apply(session))))
}

async function list(session: Session): Promise<number> {
  const { out, settings } = session
  const pending = await pendingMigrations(await session.db(), tableScripts())
  out.document({ schema: settings.schema, pending })
  if (pending.length === 0) out.line(`schema "${settings.schema}" is up to date`)
  else out.line(`pending in schema "${settings.schema}": ${pending.join(', ')}; apply them with: sluice migrate`)
  return pending.length === 0 ? EXIT.done : EXIT.found
}

async function apply(session: Session): Promise<void> {
  const { out, settings } = session
  await session.db() // if PostgreSQL is away, this says so in one line
  const { applied } = await migrate(session.postgresUrl, settings.schema, tableScripts())
  out.document({ schema: settings.schema, applied })
  out.line(
    applied.length === 0
      ? `schema "${settings.schema}" is up to date`
      : `applied to schema "${settings.schema}": ${applied.join(', ')}`,
  )
}
