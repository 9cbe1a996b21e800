/** `sluice config`: what each role would read from this environment, with secrets masked, and what is wrong with it. */
import { settingsOf, type Env } from '@sluice/runtime/config.ts'
import { maskConfig, type MaskedSetting } from '@sluice/runtime/config-mask.ts'
import { unknownNames } from '@sluice/runtime/config-names.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { EXIT, examples, type Add } from '../cli.ts'
import { ROLES } from '../config.ts'
import type { Session } from '../session.ts'

interface RoleConfig {
  role: string
  settings: MaskedSetting[]
  problems: string[]
}

export const addConfig: Add = (cli, parent) => {
  parent
    .command('config')
    .description('show the effective configuration of each role, secrets masked')
    .argument('[role]', `one of ${ROLES.map(({ name }) => name).join(', ')}; default: all`)
    .option('--check', 'exit 78 when the role, or without one any of them, could not start with it')
    .option('--changed', 'only what is not the default')
    .addHelpText(
      'after',
      examples(
        ['sluice config', 'everything, with where each value came from'],
        ['sluice config indexer --changed', 'what was set for the indexer'],
        ['sluice config --check', 'before a deployment, with an env file for all roles: would each start?'],
        ['sluice config indexer --check', 'in a container, whose environment is that of one role'],
      ),
    )
    .action((role: string | undefined, options: { check?: boolean; changed?: boolean }, command) => {
      if (role !== undefined && !ROLES.some(({ name }) => name === role)) {
        command.error(`error: there is no role ${role}; there are ${ROLES.map(({ name }) => name).join(', ')}`)
      }
      return cli.run(async (session) => show(session, role, options))
    })
}

function show(
  { env, out }: Session,
  only: string | undefined,
  options: { check?: boolean; changed?: boolean },
): number {
  const roles = ROLES.filter(({ name }) => only === undefined || name === only).map((role) =>
    effective(role, env, options.changed),
  )
  const unknown = unknownNames(env, new Set(VARIABLES))
  out.document({ roles, unknown })
  for (const { role, settings, problems } of roles) {
    out.heading(role)
    const rows = settings.map(({ name, value, source }) => [name, value, source])
    out.table(['variable', 'value', 'from'], rows)
    for (const problem of problems) out.line(`  ${out.paint('bad', `✗ ${problem}`)}`)
    out.line()
  }
  for (const problem of unknown) out.line(out.paint('bad', `✗ ${problem}`))
  const isWrong = unknown.length > 0 || roles.some(({ problems }) => problems.length > 0)
  return options.check && isWrong ? EXIT.config : EXIT.done
}

function effective(role: (typeof ROLES)[number], env: Env, changedOnly = false): RoleConfig {
  const problems = settingsOf(role, env).flatMap(({ problem }) => problem ?? [])
  const settings = maskConfig(role, env).filter(({ source }) => !changedOnly || source !== 'default')
  return { role: role.name, settings, problems }
}
