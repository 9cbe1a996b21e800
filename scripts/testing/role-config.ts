/** What a role makes of an environment that `docker-compose.yml` or `infra/k8s` gives it. */
import { exampleOf, loadConfig, namesOf } from '@sluice/runtime/config.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { configOf, type ROLES } from '../roles.ts'

/** How long a daemon may take to stop, by default. */
export const drainSeconds = Number(exampleOf((await configOf('ingester')).options.drainMs!)) / 1_000

/** @throws ConfigError when the role would not start with it */
export async function loadRole(role: (typeof ROLES)[number], env: Record<string, string>): Promise<unknown> {
  const config = await configOf(role)
  if (!namesOf(config).includes('METRICS_PORT')) throw new Error(`${role}: not the configuration of a daemon`)
  return loadConfig(config, env, { known: VARIABLES })
}
