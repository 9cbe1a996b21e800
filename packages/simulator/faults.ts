/**
 * What goes wrong, each as one action that proves that it happened: it returns what it did, or throws. A fault ends before the next begins, but what it
 * did to the others goes on.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { CRASH_POINTS, type CrashPoint } from '@sluice/runtime/crash-points.ts'
import type { Random } from '@sluice/sandbox/random.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import { DATABASE, type Slot, type System } from './system.ts'
import { type Poison, poisonOf } from './poison.ts'
import type { World } from './world.ts'

export interface Scene {
  system: System
  world: World
  random: Random
  /** What was put into streams, and must become dead letters. */
  poison: Poison[]
  /** Accounts whose fetch fails for a while; their faults must have fired by the end. */
  troubled: FakeAccount[]
}

/** By name; each drawn at least once in a run. */
export const FAULTS = {
  'kill -9': async (scene) => {
    const slot = scene.random.pick(scene.system.slots)
    slot.isExpected = true
    await slot.daemon!.kill()
    const { signal } = await slot.daemon!.exited
    proved(signal === 'SIGKILL', `${slot.name} ended with ${signal}`)
    await maybeLater(scene.random)
    await scene.system.startSlot(slot)
  },
  'stop and continue': async ({ system, random }) => {
    const daemon = random.pick(system.slots).daemon!
    const { pid } = daemon
    daemon.pause()
    await until(() => stateOf(pid) === 'T', 'the process was not stopped')
    // Longer than it takes for somebody else to take its entries over, sometimes.
    await delay(500 + random.below(3_000))
    daemon.resume()
  },
  terminate: async ({ system, random }) => {
    const slot = random.pick(system.slots)
    slot.isExpected = true
    await slot.daemon!.stop({ graceMs: 60_000 })
    await maybeLater(random)
    await system.startSlot(slot)
  },
  'redis killed': async ({ system, random }) => {
    const { pid } = system.redis
    await system.redis.kill()
    await delay(random.below(1_500))
    await system.redis.start()
    proved(system.redis.pid !== pid, 'Redis is the process it was')
  },
  'redis restarted': async ({ system }) => {
    const { pid } = system.redis
    await system.redis.restart()
    proved(system.redis.pid !== pid, 'Redis is the process it was')
  },
  'redis connections cut': async ({ system }) => {
    const killed = await commandOf(system, ['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'])
    proved(Number(killed) > 4, `${String(killed)} connections were cut`)
  },
  'redis full': async ({ system, random }) => {
    const used = /used_memory:(\d+)/.exec(String(await commandOf(system, ['INFO', 'memory'])))![1]
    await commandOf(system, ['CONFIG', 'SET', 'maxmemory', String(Math.floor(Number(used) * 0.8))])
    try {
      const refused = await commandOf(system, ['SET', 'simulator:probe', 'x']).then(() => '', String)
      proved(refused.includes('OOM'), `Redis took a write (${refused})`)
      await delay(500 + random.below(2_000))
    } finally {
      await commandOf(system, ['CONFIG', 'SET', 'maxmemory', '0'])
    }
  },
  'postgres killed': async ({ system, random }) => {
    const { pid } = system.postgres
    await system.postgres.kill('SIGKILL')
    await delay(random.below(1_500))
    await system.postgres.start()
    proved(system.postgres.pid !== pid, 'PostgreSQL is the process it was')
  },
  'postgres restarted': async ({ system }) => {
    const { pid } = system.postgres
    await system.postgres.restart()
    proved(system.postgres.pid !== pid, 'PostgreSQL is the process it was')
  },
  'postgres connections cut': async ({ system }) => {
    proved((await cutDatabase(system)) > 0, 'nobody was connected to PostgreSQL')
  },
  'postgres read-only': async ({ system, random }) => {
    await system.postgres.query(`alter database ${DATABASE} set default_transaction_read_only = on`)
    await cutDatabase(system)
    const probe = `create table simulator_probe ()`
    const refused = await system.postgres.query(probe, [], DATABASE).then(() => '', String)
    await delay(500 + random.below(1_500))
    await system.postgres.query(`alter database ${DATABASE} reset default_transaction_read_only`)
    await cutDatabase(system)
    proved(refused.includes('read-only'), `PostgreSQL took a write (${refused})`)
  },
  'relay cut': async ({ world }) => {
    await until(() => world.relays.some(({ connected }) => connected > 0), 'no relay was connected')
    for (const relay of world.relays) relay.disconnect()
  },
  'relay silent': async ({ world, random }) => {
    const relay = random.pick(world.relays)
    await until(() => relay.connected > 0, 'the relay was not connected')
    const before = relay.cursors.length
    relay.stall()
    await until(() => relay.cursors.length > before, 'the connection that was silent was not made anew')
  },
  'relay refuses': async ({ world, random }) => {
    const [relay] = world.relays
    relay!.refuses = true
    relay!.disconnect()
    await delay(300 + random.below(1_500))
    proved(relay!.connected === 0, 'the relay was connected')
    relay!.refuses = false
  },
  'labeler cut': async ({ world }) => {
    await until(() => world.labeler.connected > 0, 'the labeler was not connected')
    world.labeler.disconnect()
  },
  'host fails': async ({ world, random, troubled }) => {
    const account = random.pick(
      world.accounts.filter(({ status, fault }) => status === undefined && fault === undefined),
    )
    const status = random.pick([500, 502, 503])
    account.fault = { kind: 'status', status, error: 'InternalServerError', times: 2 }
    world.resync(account)
    troubled.push(account)
  },
  'host asks to wait': async ({ world, random, troubled }) => {
    const account = random.pick(
      world.accounts.filter(({ status, fault }) => status === undefined && fault === undefined),
    )
    const headers = { 'retry-after': '1' }
    account.fault = { kind: 'status', status: 429, error: 'RateLimitExceeded', headers, times: 2 }
    world.resync(account)
    troubled.push(account)
  },
  'repository cut off': async ({ world, random, troubled }) => {
    const account = random.pick(
      world.accounts.filter(({ status, fault }) => status === undefined && fault === undefined),
    )
    const kind = random.pick(['cut', 'truncate'] as const)
    account.fault = { kind, afterBytes: random.below(account.car().length), times: 1 }
    world.resync(account)
    troubled.push(account)
  },
  'directory down': async ({ world, random }) => {
    world.network.plcIsDown = true
    const { status } = await fetch(`${world.network.plcUrl}/${world.accounts[0]!.did}`)
    await delay(300 + random.below(1_500))
    world.network.plcIsDown = false
    proved(status === 503, `the directory answered ${status}`)
  },
  poison: async ({ system, random, poison, world }) => {
    for (let i = 0; i < 5; i++) {
      const made = poisonOf(random, `poison ${world.seed} ${poison.length}`)
      poison.push(made)
      await retried(() => system.client.xAdd(made.stream, '*', made.fields))
    }
  },
} satisfies Record<string, (scene: Scene) => Promise<void>>

export type FaultName = keyof typeof FAULTS

/** Where each point lies: who must be armed for it. `bulk.step` lies in the command that ends a bulk load, not in a daemon. */
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
  // Work that two could do goes to whoever is to die at it.
  const twin = system.slots.find(({ role, name: other }) => role === slot.role && other !== owner)
  slot.isExpected = true
  // It gives its name back; after a kill the next one waits until the lease has run out.
  await slot.daemon!.stop({ graceMs: 60_000 })
  const isShared = name === 'chunk.between' || name === 'purge.between' || slot.role === 'backfiller'
  if (isShared && twin) {
    twin.isExpected = true
    await twin.daemon!.stop({ graceMs: 60_000 })
  }
  const isOnce = /purge|drain|chunk/.test(name)
  const armed = { name, passes: isOnce ? 1 : 1 + random.below(4) }
  const died = dies(system, slot, armed)
  const deadline = Date.now() + 60_000
  const dead = new AbortController()
  died.finally(() => dead.abort()).catch(() => {})
  for (let round = 0; !dead.signal.aborted && Date.now() < deadline; round++) {
    provoke(name, slot, world, round)
    await Promise.race([delay(500), died])
  }
  proved(dead.signal.aborted, `${owner} did not come to ${name}`)
  await died
  await system.startSlot(slot)
  if (isShared && twin) await system.startSlot(twin)
  return owner
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

function stateOf(pid: number): string | undefined {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0]
}

/** At once, or after somebody else has had time to take over. */
async function maybeLater(random: Random): Promise<void> {
  if (random.chance(0.4)) await delay(random.below(3_000))
}

async function cutDatabase({ postgres }: System): Promise<number> {
  const rows = await postgres.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and backend_type = 'client backend'`,
    [DATABASE],
  )
  return rows.length
}

function commandOf(system: System, args: string[]): Promise<unknown> {
  return retried(() => system.client.sendCommand(args))
}

/** While our own connection is being made anew. What Redis refuses is an answer. */
async function retried<T>(command: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await command()
    } catch (error) {
      if (tries > 100 || /OOM/.test(String(error))) throw error
      await delay(100)
    }
  }
}

async function until(probe: () => boolean, otherwise: string): Promise<void> {
  const deadline = Date.now() + 30_000
  while (!probe()) {
    proved(Date.now() < deadline, otherwise)
    await delay(10)
  }
}

function proved(isSo: boolean, otherwise: string): void {
  if (!isSo) throw new Error(`a fault did not fire: ${otherwise}`)
}
