/**
 * The bulk path in a run: begun before the daemons, ended under traffic by the operator's command, which is killed
 * between two of its steps.
 */
import { sluice } from './sluice.ts'
import type { System } from './system.ts'

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
