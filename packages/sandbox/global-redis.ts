/** Vitest: one Redis for the run; each test gets a logical database of its own. */
import type { TestProject } from 'vitest/node'
import { onceForTheRun } from './global-once.ts'
import { startRedis } from './redis.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Connection string of database 0 of the run's Redis. */
    redisUrl: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { value, release } = await onceForTheRun('redis', () => startRedis())
  project.provide('redisUrl', value.url())
  return release
}
