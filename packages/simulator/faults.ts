/**
 * What goes wrong: each fault is one action, which proves that it happened, or throws. Faults run beside each other;
 * what a fault needs to itself (a store, the daemons of a role), the others leave alone until it is over.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { Random } from '@sluice/sandbox/random.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import { poisonOf } from './poison.ts'
import { having, proved, until, type Scene } from './scene.ts'
import { DATABASE, type Slot, type System } from './system.ts'

type Hands = Pick<Scene, 'system' | 'random' | 'locks'>

/** Those of the daemons and their stores, whatever the daemons read from. */
export const OWN_FAULTS = {
  'kill -9': async (scene) => {
    const slot = victimOf(scene)
    using _ = await scene.locks.take(slot.role)
    slot.isExpected = true
    await slot.daemon!.kill()
    const { signal } = await slot.daemon!.exited
    proved(signal === 'SIGKILL', `${slot.name} ended with ${signal}`)
    await maybeLater(scene.random)
    await scene.system.startSlot(slot)
  },
  'stop and continue': async (scene) => {
    const { random } = scene
    const slot = victimOf(scene)
    using _ = await scene.locks.take(slot.role)
    const daemon = slot.daemon!
    const { pid } = daemon
    daemon.pause()
    await until(() => stateOf(pid) === 'T', 'the process was not stopped')
    // Longer than it takes for somebody else to take its entries over, sometimes.
    await delay(500 + random.below(3_000))
    daemon.resume()
  },
  terminate: async (scene) => {
    const slot = victimOf(scene)
    using _ = await scene.locks.take(slot.role)
    await scene.system.stopSlot(slot)
    await maybeLater(scene.random)
    await scene.system.startSlot(slot)
  },
  'redis killed': having('redis', async ({ system, random }) => {
    const { pid } = system.redis
    await system.redis.kill()
    await delay(random.below(1_500))
    await system.redis.start()
    proved(system.redis.pid !== pid, 'Redis is the process it was')
  }),
  'redis restarted': having('redis', async ({ system }) => {
    const { pid } = system.redis
    await system.redis.restart()
    proved(system.redis.pid !== pid, 'Redis is the process it was')
  }),
  'redis connections cut': having('redis', async ({ system }) => {
    await until(async () => {
      return Number(await commandOf(system, ['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'])) > 0
    }, 'nobody was connected to Redis')
  }),
  'redis full': having('redis', async ({ system, random }) => {
    try {
      // It may drain in between.
      await until(() => refuses(system), 'Redis took a write')
      await delay(500 + random.below(2_000))
    } finally {
      await commandOf(system, ['CONFIG', 'SET', 'maxmemory', '0'])
    }
  }),
  'postgres killed': having('postgres', async ({ system, random }) => {
    const { pid } = system.postgres
    await system.postgres.kill('SIGKILL')
    await delay(random.below(1_500))
    await system.postgres.start()
    proved(system.postgres.pid !== pid, 'PostgreSQL is the process it was')
  }),
  'postgres restarted': having('postgres', async ({ system }) => {
    const { pid } = system.postgres
    await system.postgres.restart()
    proved(system.postgres.pid !== pid, 'PostgreSQL is the process it was')
  }),
  'postgres connections cut': having('postgres', async ({ system }) => {
    await until(async () => (await cutDatabase(system)) > 0, 'nobody was connected to PostgreSQL')
  }),
  'postgres read-only': having('postgres', async ({ system, random }) => {
    await system.postgres.query(`alter database ${DATABASE} set default_transaction_read_only = on`)
    await cutDatabase(system)
    const probe = `create table simulator_probe ()`
    const refused = await system.postgres.query(probe, [], DATABASE).then(() => '', String)
    await delay(500 + random.below(1_500))
    await system.postgres.query(`alter database ${DATABASE} reset default_transaction_read_only`)
    await cutDatabase(system)
    proved(refused.includes('read-only'), `PostgreSQL took a write (${refused})`)
  }),
  'postgres disk full': having('postgres', async ({ system, random }) => {
    const disk = system.disk!
    disk.fill()
    try {
      const probe = `create table public.simulator_probe as select repeat('x', 1000) from generate_series(1, 20000)`
      const refused = await system.postgres.query(probe, [], DATABASE).then(() => '', String)
      proved(refused.includes('No space left'), `PostgreSQL took a write (${refused})`)
      await delay(1_000 + random.below(2_000))
    } finally {
      disk.clear()
    }
  }),
} satisfies Record<string, (hands: Hands) => Promise<void>>

/** By name; each drawn at least once in a run. */
export const FAULTS = {
  ...OWN_FAULTS,
  'relay cut': having('relays', async ({ world }) => {
    await until(() => world.relays.some(({ connected }) => connected > 0), 'no relay was connected')
    for (const relay of world.relays) relay.disconnect()
  }),
  'relay silent': having(['relays', 'ingester'], async ({ world, random }) => {
    const relay = random.pick(world.relays)
    await until(() => relay.connected > 0, 'the relay was not connected')
    const before = relay.cursors.length
    relay.stall()
    await until(() => relay.cursors.length > before, 'the connection that was silent was not made anew')
  }),
  'relay refuses': having('relays', async ({ world, random }) => {
    const [relay] = world.relays
    relay!.refuses = true
    relay!.disconnect()
    await delay(300 + random.below(1_500))
    proved(relay!.connected === 0, 'the relay was connected')
    relay!.refuses = false
  }),
  'labeler cut': having('labeler', async ({ world }) => {
    await until(() => world.labeler.connected > 0, 'the labeler was not connected')
    world.labeler.disconnect()
  }),
  'host fails': troubling((_, random) => {
    const status = random.pick([500, 502, 503])
    return { kind: 'status', status, error: 'InternalServerError', times: 2 }
  }),
  'host asks to wait': troubling(() => {
    return { kind: 'status', status: 429, error: 'RateLimitExceeded', headers: { 'retry-after': '1' }, times: 2 }
  }),
  'repository cut off': troubling((account, random) => {
    const kind = random.pick(['cut', 'truncate'] as const)
    return { kind, afterBytes: random.below(account.car().length), times: 1 }
  }),
  'directory down': having('directory', async ({ world, random }) => {
    world.network.plcIsDown = true
    const { status } = await fetch(`${world.network.plcUrl}/${world.accounts[0]!.did}`)
    await delay(300 + random.below(1_500))
    world.network.plcIsDown = false
    proved(status === 503, `the directory answered ${status}`)
  }),
  poison: having('redis', async ({ system, random, poison, world }) => {
    for (let i = 0; i < 5; i++) {
      const made = poisonOf(random, `poison ${world.seed} ${poison.length}`)
      poison.push(made)
      await retried(() => system.client.xAdd(made.stream, '*', made.fields))
    }
  }),
} satisfies Record<string, (scene: Scene) => Promise<void>>

export type FaultName = keyof typeof FAULTS

/** Those that can be done here: only root can have a disk that becomes full. */
export function possibleFaults({ disk }: System): FaultName[] {
  return (Object.keys(FAULTS) as FaultName[]).filter((name) => name !== 'postgres disk full' || disk !== undefined)
}

/**
 * A fault of one account's host, which a fetch of its repository has to meet. That it fired is seen at the end of the
 * run (`Scene.troubled`).
 */
function troubling(
  faultOf: (account: FakeAccount, random: Random) => FakeAccount['fault'],
): (scene: Scene) => Promise<void> {
  return async ({ world, random, troubled }) => {
    const account = random.pick(
      world.accounts.filter(({ status, fault }) => status === undefined && fault === undefined),
    )
    account.fault = faultOf(account, random)
    world.resync(account)
    troubled.push(account)
  }
}

function victimOf({ system, random }: Hands): Slot {
  return random.pick(system.slots.filter(({ isSpared }) => !isSpared))
}

function stateOf(pid: number): string | undefined {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0]
}

/** At once, or after somebody else has had time to take over. */
async function maybeLater(random: Random): Promise<void> {
  if (random.chance(0.4)) await delay(random.below(3_000))
}

/** Leaves Redis less memory than it uses, and says whether it refuses a write then. */
async function refuses(system: System): Promise<boolean> {
  const used = /used_memory:(\d+)/.exec(String(await commandOf(system, ['INFO', 'memory'])))![1]
  await commandOf(system, ['CONFIG', 'SET', 'maxmemory', String(Math.floor(Number(used) * 0.8))])
  const answer = await commandOf(system, ['SET', 'simulator:probe', 'x']).then(() => '', String)
  return answer.includes('OOM')
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
      if (tries > 600 || /OOM/.test(String(error))) throw error
      await delay(100)
    }
  }
}
