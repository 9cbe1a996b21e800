/** The bulk path in a run: begun before the daemons, ended under traffic by the operator's command, which is killed between two of its steps. */
import { fileURLToPath } from 'node:url'
import { Child, type Exit } from '@sluice/sandbox/children.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { DATABASE, type System } from './system.ts'

const PROGRAM = fileURLToPath(new URL('../cli/main.ts', import.meta.url))
/** `bulk finish` has seven steps. */
const STEPS = 7

/** Before anything is indexed. */
export async function beginBulk(system: System): Promise<void> {
  const { child, exit } = await sluice(system, ['bulk', 'begin'])
  if (exit.code !== 0) throw child.error(`ended with ${exit.code}`)
}

/** Kills `bulk finish` after one of its steps, and has another one finish it. */
export async function finishBulkThroughCrash(system: System, pick: (limit: number) => number): Promise<void> {
  const armed = { SLUICE_CRASH_POINTS: `bulk.step@${1 + pick(STEPS)}` }
  const doomed = await sluice(system, ['bulk', 'finish'], armed)
  if (doomed.exit.signal !== 'SIGKILL' || !doomed.child.log.tail().includes('crash point bulk.step'))
    throw doomed.child.error('a fault did not fire: it did not die at bulk.step')
  for (let tries = 0; ; tries++) {
    const { child, exit } = await sluice(system, ['bulk', 'finish'])
    if (exit.code === 0) return
    // The other one's session may not have ended yet.
    if (tries > 20) throw child.error(`ended with ${exit.code}`)
  }
}

async function sluice(
  { postgres, redis }: System,
  args: string[],
  more: Record<string, string> = {},
): Promise<{ child: Child; exit: Exit }> {
  const stores = { REDIS_URL: redis.url(), DB_POSTGRES_URL: postgres.url(DATABASE), DB_POSTGRES_SCHEMA: SCHEMA }
  const child = await Child.start({
    name: `sluice ${args.join(' ')}`,
    command: process.execPath,
    args: [PROGRAM, ...args],
    env: { PATH: process.env.PATH, ...stores, ...more },
  })
  return { child, exit: await child.exited }
}
