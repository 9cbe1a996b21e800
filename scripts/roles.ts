/**
 * The three roles as their sources describe them: configuration and metrics. Read by the documents, and by the tests of
 * `infra/`.
 */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Definition } from '@sluice/runtime/config.ts'
import type { RoleFacts } from './documents.ts'
import { declaredMetrics, type Sources } from './metric-declarations.ts'

export const root = join(import.meta.dirname, '..')
/** In the order of the data path. */
export const ROLES = ['ingester', 'backfiller', 'indexer'] as const

/** `problems`: metrics that could not be read, one sentence each. */
export async function readRoles(): Promise<{ roles: RoleFacts[]; problems: string[] }> {
  const sources = readSources()
  const read = await Promise.all(
    ROLES.map(async (role) => {
      const { metrics, problems } = declaredMetrics(sources, `services/${role}/main.ts`)
      return { config: await configOf(role), metrics, problems }
    }),
  )
  return { roles: read, problems: [...new Set(read.flatMap(({ problems }) => problems))] }
}

/** The literal of a role, or of the command line: what its config.ts exports under `<name>Config`. */
export async function configOf(name: (typeof ROLES)[number] | 'cli'): Promise<Definition> {
  const path = join(name === 'cli' ? 'packages' : 'services', name, 'config.ts')
  const exported = (await import(pathToFileURL(join(root, path)).href)) as Record<string, Definition | undefined>
  const config = exported[`${name}Config`]
  if (config === undefined) throw new Error(`${path} exports no ${name}Config`)
  return config
}

export function readSources(): Sources {
  const paths = globSync('{packages,services}/**/*.ts', { cwd: root, exclude: ['**/node_modules'] })
  return new Map(paths.map((path) => [path, readFileSync(join(root, path), 'utf8')]))
}
