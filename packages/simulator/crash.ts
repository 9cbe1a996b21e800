/** Dying in the middle: a daemon is armed with a crash point, brought to it, and started again. */
import { setTimeout as delay } from 'node:timers/promises'
import { CRASH_POINTS, type CrashPoint } from '@sluice/runtime/crash-points.ts'
import { PATIENCE_MS, proved, type Scene } from './scene.ts'
import type { Slot, System } from './system.ts'
import type { World } from './world.ts'

/**
 * Where each point lies: who must be armed for it. `bulk.step` lies in the command that ends a bulk load, not in a
 * daemon.
 */
const OWNERS: Partial<Record<CrashPoint, readonly string[]>> = {
  'append.before': ['ingester', 'backfiller one'],
  'append.after': ['ingester', 'backfiller two'],
  'commit.before': ['indexer one', 'indexer two'],
  'settle.before': ['indexer one', 'indexer two'],
  'commit.after': ['indexer one', 'indexer two', 'backfiller one'],
  'ack.after': ['indexer one', 'indexer two', 'backfiller two'],
  'chunk.between': ['backfiller one', 'backfiller two'],
  'purge.between': ['indexer one', 'indexer two'],
  'drain.begin': ['indexer one', 'backfiller two', 'ingester'],
}

export const DAEMON_POINTS = CRASH_POINTS.filter((point) => point in OWNERS)

/** Starts a daemon that dies at this point, makes it come there, and starts it again. Returns who died. */
export async function crashAt(scene: Scene, name: CrashPoint): Promise<string> {
  const { system, world, random } = scene
  const owner = random.pick(OWNERS[name]!)
  const slot = system.slots.find((each) => each.name === owner)!
  // While its twin is stopped, all work that either could do comes to the one that is to die.
  const twin = system.slots.find(({ role, name: other }) => role === slot.role && other !== owner)
  const isShared = name === 'chunk.between' || name === 'purge.between' || slot.role === 'backfiller'
  const stopped = isShared && twin ? [slot, twin] : [slot]
  using _ = await scene.locks.take(slot.role)
  // It gives its name back; after a kill the next one waits until the lease has run out.
  await Promise.all(stopped.map((each) => system.stopSlot(each)))
  const isOnce = /purge|drain|chunk/.test(name)
  const armed = { name, passes: isOnce ? 1 : 1 + random.below(4) }
  await provokeUntil(dies(system, slot, armed), name, slot, world)
  await Promise.all(stopped.map((each) => system.startSlot(each)))
  return owner
}

/** Has the world bring the daemon to the point, again and again, until it died there. */
async function provokeUntil(died: Promise<void>, name: CrashPoint, slot: Slot, world: World): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS
  const dead = new AbortController()
  died.finally(() => dead.abort()).catch(() => {})
  for (let round = 0; !dead.signal.aborted && Date.now() < deadline; round++) {
    provoke(name, slot, world, round)
    await Promise.race([delay(500), died])
  }
  proved(dead.signal.aborted, `${slot.name} did not come to ${name}`)
  await died
}

function provoke(name: CrashPoint, slot: Slot, world: World, round: number): void {
  const { daemon } = slot
  if (name === 'drain.begin' && daemon?.isRunning) return void daemon.kill('SIGTERM')
  if (name === 'purge.between' && round === 0) {
    const victim = world.accounts.find((account) => !world.large.includes(account) && account.status === undefined)!
    return world.delete(victim)
  }
  if (slot.role === 'backfiller') {
    const account = name === 'chunk.between' ? world.large[0]! : world.accounts[round % world.accounts.length]!
    if (account.status === undefined) world.resync(account)
  }
}

/** @throws Error when it ended in another way than by dying there */
async function dies(system: System, slot: Slot, armed: { name: CrashPoint; passes: number }): Promise<void> {
  const proof = `crash point ${armed.name}`
  try {
    await system.startSlot(slot, armed)
  } catch (error) {
    // It may be dead before it was seen alive.
    if ((error as Error).message.includes(proof)) return
    throw error
  }
  const { signal } = await slot.daemon!.exited
  proved(
    signal === 'SIGKILL' && slot.daemon!.logLines.at(-1) === proof,
    `${slot.name} ended (${signal}), and not at ${armed.name}`,
  )
}
