/** Vitest: one PostgreSQL for the run, with a migrated template that tests clone. */
import type { TestProject } from 'vitest/node'
import { createTemplate } from './template.ts'
import { onceForTheRun } from './global-once.ts'
import { startPostgres } from './postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Superuser's connection string of the run's PostgreSQL. */
    postgresUrl: string
    /** Its version, such as 18. */
    postgresMajor: number
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { value, release } = await onceForTheRun('postgres', async () => {
    const server = await startPostgres({ fast: true })
    await createTemplate(server)
    return server
  })
  project.provide('postgresUrl', value.url())
  project.provide('postgresMajor', value.major)
  return release
}
