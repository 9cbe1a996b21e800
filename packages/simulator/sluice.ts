/** The operator's command line beside a system, as a process of its own. */
import { fileURLToPath } from 'node:url'
import { Child, type Exit, sharedEnvironment } from '@sluice/sandbox/children.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { DATABASE, type System } from './system.ts'

const PROGRAM = fileURLToPath(new URL('../cli/main.ts', import.meta.url))

/** Runs `sluice …` to its end. @param more of the environment, beside where the stores are */
export async function sluice(
  { postgres, redis }: System,
  args: string[],
  more: Record<string, string> = {},
): Promise<{ child: Child; exit: Exit }> {
  const stores = { REDIS_URL: redis.url(), DB_POSTGRES_URL: postgres.url(DATABASE), DB_POSTGRES_SCHEMA: SCHEMA }
  const child = await Child.start({
    name: `sluice ${args.join(' ')}`,
    command: process.execPath,
    args: [PROGRAM, ...args],
    env: { ...sharedEnvironment(), ...stores, ...more },
  })
  return { child, exit: await child.exited }
}
