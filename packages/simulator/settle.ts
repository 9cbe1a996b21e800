/** Waits until a system has nothing left to do and its index says the truth; what does not come to be in time is the answer. */
import { setTimeout as delay } from 'node:timers/promises'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { differences } from './compare.ts'
import type { System } from './system.ts'
import type { World } from './world.ts'

/** What stays the same, word for word, for so long will not change: all that the daemons do by the clock is due far sooner. */
const STILL_MS = 60_000

const SAY_MS = 5_000

/** What is left, or differs, after at most `withinMs`; none: all is well. */
export async function settled(
  system: System,
  world: World,
  { withinMs, say }: { withinMs: number; say?: (line: string) => void },
): Promise<string[]> {
  await using db = system.openDatabase()
  const deadline = Date.now() + withinMs
  let [last, sinceMs, saidMs] = ['', Date.now(), Date.now()]
  for (;;) {
    const lines = await problems(system, world, db)
    const text = lines.join('\n')
    if (text !== last) [last, sinceMs] = [text, Date.now()]
    const isOver = Date.now() > deadline || Date.now() - sinceMs > STILL_MS
    if (lines.length > 0 && Date.now() - saidMs > SAY_MS) {
      saidMs = Date.now()
      say?.(`not settled: ${lines.slice(0, 4).join('; ')}`)
    }
    if (lines.length === 0 || isOver || system.surprises.length > 0) return lines
    // A look at a large index costs both of us.
    await delay(Math.min(200 + world.truth.records.size / 50, 5_000))
  }
}

async function problems(system: System, world: World, db: DatabasePool): Promise<string[]> {
  try {
    // A claim of whoever died in a purge, or with a question, ends by the clock, after 15 or 2 minutes: here it ends now.
    const later = new Date(Date.now() + 60_000).toISOString()
    await db.query(`update account_deletion set "dueAt" = '' where state <> 'purged' and "dueAt" > $1`, [later])
    await db.query(`update account_check set "dueAt" = '' where state <> 'asked' and "dueAt" > $1`, [later])
    const left = await system.leftovers(world)
    return left.length > 0 ? left : await differences(db, world.truth)
  } catch (error) {
    // A store may have just been cut off from us too; what stays so is reported.
    return [`cannot look: ${String(error)}`]
  }
}
