/**
 * Waits until a system has nothing left to do and its index says the truth; what does not come to be in time is the
 * answer.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { differences } from './compare.ts'
import type { System } from './system.ts'
import type { World } from './world.ts'

/**
 * What is left, word for word the same for so long, will stay: all that the daemons do by the clock is due far sooner.
 */
const STILL_MS = 60_000

const SAY_MS = 5_000

/** What is left, or differs, after at most `withinMs`; none: all is well. */
export async function untilQuiet(
  system: System,
  world: World,
  { withinMs, say }: { withinMs: number; say?: (line: string) => void },
): Promise<string[]> {
  await using db = system.openDatabase()
  return await untilNone(() => problems(system, world, db), {
    withinMs,
    stillMs: STILL_MS,
    // A look at a large index costs both of us.
    everyMs: () => Math.min(200 + world.truth.records.size / 50, 5_000),
    isOver: () => system.surprises.length > 0,
    ...(say && { say }),
  })
}

/**
 * Looks until nothing is left, or what is left stays the same for `stillMs`, or for `withinMs`; what is left then. A
 * look that fails is a line.
 */
export async function untilNone(
  look: () => Promise<string[]>,
  options: {
    withinMs: number
    stillMs: number
    everyMs: () => number
    isOver: () => boolean
    say?: (line: string) => void
  },
): Promise<string[]> {
  const { withinMs, stillMs, everyMs, isOver, say } = options
  const deadline = Date.now() + withinMs
  let [last, sinceMs, saidMs] = ['', Date.now(), Date.now()]
  for (;;) {
    // A store may have just been cut off from us too; what stays so is reported.
    const lines = await look().catch((error: unknown) => [`cannot look: ${String(error)}`])
    const text = lines.join('\n')
    if (text !== last) [last, sinceMs] = [text, Date.now()]
    const isLate = Date.now() > deadline || Date.now() - sinceMs > stillMs
    if (lines.length > 0 && Date.now() - saidMs > SAY_MS) {
      saidMs = Date.now()
      say?.(`not quiet yet: ${lines.slice(0, 4).join('; ')}`)
    }
    if (lines.length === 0 || isLate || isOver()) return lines
    await delay(everyMs())
  }
}

async function problems(system: System, world: World, db: DatabasePool): Promise<string[]> {
  await endClaims(db)
  const left = await system.leftovers(world)
  return left.length > 0 ? left : await differences(db, world.truth)
}

/**
 * Ends the claims of daemons that died in a purge, with a question, or looking at a handle. By the clock they would end
 * after 15, 2 or 10 minutes.
 */
export async function endClaims(db: DatabasePool): Promise<void> {
  const [later, latest] = [60_000, 16 * 60_000].map((ms) => new Date(Date.now() + ms).toISOString())
  await db.query(`update handle_check set "dueAt" = '' where "dueAt" > $1 and "dueAt" < $2`, [later, latest])
  await db.query(`update account_deletion set "dueAt" = '' where state <> 'purged' and "dueAt" > $1`, [later])
  await db.query(`update account_check set "dueAt" = '' where state <> 'asked' and "dueAt" > $1`, [later])
}
