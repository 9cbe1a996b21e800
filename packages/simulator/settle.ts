/** Waits until a system has nothing left to do and its index says the truth; what does not come to be in time is the answer. */
import { setTimeout as delay } from 'node:timers/promises'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { differences } from './compare.ts'
import type { System } from './system.ts'
import type { World } from './world.ts'

/** What is left, or differs, after at most `withinMs`; none: all is well. */
export async function settled(system: System, world: World, withinMs: number): Promise<string[]> {
  await using db = system.openDatabase()
  const deadline = Date.now() + withinMs
  for (;;) {
    const lines = await problems(system, world, db)
    if (lines.length === 0 || Date.now() > deadline || system.surprises.length > 0) return lines
    await delay(200)
  }
}

async function problems(system: System, world: World, db: DatabasePool): Promise<string[]> {
  try {
    // A claim of whoever died in a purge ends by the clock, after 15 minutes: here it ends now.
    await db.query(`update account_deletion set "dueAt" = '' where state <> 'purged' and "dueAt" > $1`, [
      new Date(Date.now() + 60_000).toISOString(),
    ])
    const left = await system.leftovers(world)
    return left.length > 0 ? left : await differences(db, world.truth)
  } catch (error) {
    // A store may have just been cut off from us too; what stays so is reported.
    return [`cannot look: ${String(error)}`]
  }
}
