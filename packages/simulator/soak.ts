/**
 * A soak: very many events through an ingester, two backfillers and two indexers, without faults. Nothing may be
 * missing at the end, and the memory of each daemon is sampled all the way, and what it holds after a garbage
 * collection: what grows with the number of events is a leak.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { noProcessLeft } from '@sluice/sandbox/leftovers.ts'
import { heldMb, PROBED } from './held-memory.ts'
import { untilQuiet } from './quiet.ts'
import { type Slot, System } from './system.ts'
import { residentMb } from './vitals.ts'
import { World } from './world.ts'

export interface SoakOptions {
  seed: number
  events: number
  say: (line: string) => void
}

interface Sample {
  events: number
  mb: number
}

interface Memory {
  slot: Slot
  resident: Sample[]
  /** After a collection of all garbage. */
  held: Sample[]
}

/** The relay is never further ahead than so many frames: what it keeps for a reconnect is bounded too. */
const AHEAD_FRAMES = 4_000
const SAMPLE_EVENTS = 5_000
/**
 * Resident memory in the second half, at its highest, of what it was in the first: V8 takes and gives back as much as
 * 40 % when it likes.
 */
const GROWTH_MAX = 1.25
/** What is held after a collection is asked for at so many points of a run. */
const PROBES = 8
/** Held memory, of what it was after a quarter of the run: batches on their way make it swing by some MB. */
const HELD_GROWTH_MAX_MB = 12
/**
 * Living records of an account: with 600 accounts the world, which lives in this process, stops growing at 70,000
 * records.
 */
const KEEPS = 120

/** Differences, and daemons whose memory grew; none: all is well. */
export async function soak({ seed, events, say }: SoakOptions): Promise<string[]> {
  const begin = performance.now()
  const after = (): string => `${((performance.now() - begin) / 1000).toFixed(0).padStart(5)} s`
  const nobodyLeft = noProcessLeft('the soak')
  const problems: string[] = []
  {
    await using world = await World.start({
      seed,
      accounts: 600,
      large: 1,
      relays: 1,
      strange: 4,
      ops: 8,
      keeps: KEEPS,
    })
    await using system = await System.start({ world, nodeFlags: PROBED })
    await system.startAll()
    const memories = system.slots.map((slot): Memory => ({ slot, resident: [], held: [] }))
    const first = world.operations
    for (let sampledAt = 0; world.operations - first < events && system.surprises.length === 0;) {
      for (let i = 0; i < 50; i++) world.next()
      await keptUp(system, world)
      const sent = world.operations - first
      if (sent - sampledAt < SAMPLE_EVENTS) continue
      sampledAt = sent
      await sample(memories, sent, events)
      if (sent % (SAMPLE_EVENTS * 4) < SAMPLE_EVENTS)
        say(`${after()}  ${sent} operations: ${[...memories.map(shown), `simulator ${rssMb()} MB`].join(', ')}`)
    }
    world.finish()
    say(`${after()}  all ${world.operations - first} operations are written`)
    problems.push(...(await untilQuiet(system, world, { withinMs: 300_000, say })), ...system.surprises)
    say(`${after()}  quiet, ${world.truth.records.size} records in the end, simulator ${rssMb()} MB`)
    for (const memory of memories) problems.push(...growthOf(memory, say))
    if (problems.length === 0) await system.stopAll()
  }
  await nobodyLeft().catch((error: unknown) => problems.push(String(error)))
  for (const problem of problems) say(problem)
  return problems
}

/** Resident memory each time, and a few times in a run what is held. */
async function sample(memories: readonly Memory[], sent: number, events: number): Promise<void> {
  const isProbe = memories[0]!.held.length < Math.floor((sent * PROBES) / events)
  for (const { slot, resident, held } of memories) {
    resident.push({ events: sent, mb: residentMb(slot.daemon!.pid) })
    if (isProbe) held.push({ events: sent, mb: await heldMb(slot.daemon!) })
  }
}

function shown({ slot, resident, held }: Memory): string {
  const last = held.at(-1)
  return `${slot.name} ${resident.at(-1)!.mb.toFixed(0)}${last ? ` (${last.mb.toFixed(0)} held)` : ''} MB`
}

function rssMb(): string {
  return (process.memoryUsage.rss() / 2 ** 20).toFixed(0)
}

/** Waits until the ingester is not too far behind, and lets the relay forget what it has taken. */
async function keptUp({ client, surprises }: System, { relays: [relay] }: World): Promise<void> {
  for (;;) {
    const cursor = Number(await client.get(`firehose_live:cursor:${relay!.host}`))
    relay!.forget(cursor)
    if (relay!.seq - cursor < AHEAD_FRAMES || surprises.length > 0) return
    await delay(100)
  }
}

/**
 * What grew more than it may. Says the quarters of what is resident, and the slope over the last three of them (the
 * first one warms up); then what is held at each probe.
 */
function growthOf({ slot: { name }, resident, held }: Memory, say: (line: string) => void): string[] {
  if (resident.length < 8) return [`${name}: ${resident.length} samples are too few to tell whether its memory is flat`]
  const quarter = Math.floor(resident.length / 4)
  const means = [0, 1, 2, 3].map((i) => mean(resident.slice(i * quarter, (i + 1) * quarter).map(({ mb }) => mb)))
  say(
    `${name}: quarters ${means.map((mb) => mb.toFixed(0)).join(' ')} MB, slope ${slopeOf(resident.slice(quarter))}; ` +
      `held ${held.map(({ mb }) => mb.toFixed(1)).join(' ')} MB, slope ${slopeOf(held.slice(PROBES / 4))}`,
  )
  const problems: string[] = []
  const half = resident.length >> 1
  const [highest, later] = [resident.slice(0, half), resident.slice(half)].map((part) =>
    Math.max(...part.map(({ mb }) => mb)),
  )
  if (later! > highest! * GROWTH_MAX)
    problems.push(
      `${name} grew to ${later!.toFixed(0)} MB, and was at most ${highest!.toFixed(0)} MB in the first half`,
    )
  // The least of three: a probe may come in the middle of a large batch.
  const [early, late] = [held.slice(0, 3), held.slice(-3)].map((part) => Math.min(...part.map(({ mb }) => mb)))
  if (!(late! <= early! + HELD_GROWTH_MAX_MB))
    problems.push(`${name} holds ${late!.toFixed(0)} MB after a collection, and held ${early!.toFixed(0)} MB`)
  return problems
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Least squares. */
function slopeOf(samples: readonly Sample[]): string {
  const x = mean(samples.map(({ events }) => events))
  const y = mean(samples.map(({ mb }) => mb))
  const over = samples.reduce((sum, { events, mb }) => sum + (events - x) * (mb - y), 0)
  const slope = over / samples.reduce((sum, { events }) => sum + (events - x) ** 2, 0)
  return `${(slope * 100_000).toFixed(1)} MB in 100,000 operations`
}
