/**
 * A soak: very many events through an ingester, two backfillers and two indexers, without faults. Nothing may be missing at the end, and the memory of
 * each daemon is sampled all the way: what grows with the number of events is a leak.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { noProcessLeft } from '@sluice/sandbox/leftovers.ts'
import { settled } from './settle.ts'
import { System } from './system.ts'
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

/** The relay is never further ahead than so many frames: what it keeps for a reconnect is bounded too. */
const AHEAD_FRAMES = 4_000
const SAMPLE_EVENTS = 5_000
/** Of the mean of the second quarter: a heap that is collected now and then swings by about so much. */
const GROWTH_MAX = 1.25

/** Differences, and daemons whose memory grew; none: all is well. */
export async function soak({ seed, events, say }: SoakOptions): Promise<string[]> {
  const begin = performance.now()
  const nobodyLeft = noProcessLeft('the soak')
  const problems: string[] = []
  {
    await using world = await World.start({ seed, accounts: 600, large: 1, relays: 1, strange: 4, ops: 8 })
    await using system = await System.start({ world })
    await system.startAll()
    const samples = new Map(system.slots.map(({ name }): [string, Sample[]] => [name, []]))
    const first = world.operations
    for (let sampledAt = 0; world.operations - first < events && system.surprises.length === 0;) {
      for (let i = 0; i < 50; i++) world.next()
      await keptUp(system, world)
      const sent = world.operations - first
      if (sent - sampledAt < SAMPLE_EVENTS) continue
      sampledAt = sent
      for (const { name, daemon } of system.slots)
        samples.get(name)!.push({ events: sent, mb: residentMb(daemon!.pid) })
      if (sent % (SAMPLE_EVENTS * 4) < SAMPLE_EVENTS) say(progress(sent, samples, performance.now() - begin))
    }
    world.finish()
    problems.push(...(await settled(system, world, 300_000)), ...system.surprises)
    const seconds = (performance.now() - begin) / 1000
    say(
      `${world.operations - first} operations in ${seconds.toFixed(0)} s, ${world.truth.records.size} records in the end`,
    )
    for (const [name, own] of samples) problems.push(...judged(name, own, say))
    if (problems.length === 0) await system.stopAll()
  }
  await nobodyLeft().catch((error: unknown) => problems.push(String(error)))
  for (const problem of problems) say(problem)
  return problems
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

function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024
}

function progress(sent: number, samples: ReadonlyMap<string, Sample[]>, ms: number): string {
  const memory = [...samples].map(([name, own]) => `${name} ${own.at(-1)!.mb.toFixed(0)} MB`).join(', ')
  return `${(ms / 1000).toFixed(0).padStart(5)} s  ${sent} operations, ${Math.round((sent * 1000) / ms)}/s: ${memory}`
}

/** Quarters, and the slope over the last three of them: the first one warms up. */
function judged(name: string, samples: readonly Sample[], say: (line: string) => void): string[] {
  if (samples.length < 8) return [`${name}: ${samples.length} samples are too few to tell whether its memory is flat`]
  const quarter = Math.floor(samples.length / 4)
  const means = [0, 1, 2, 3].map((i) => mean(samples.slice(i * quarter, (i + 1) * quarter).map(({ mb }) => mb)))
  const slope = slopeOf(samples.slice(quarter)) * 100_000
  say(
    `${name}: quarters ${means.map((mb) => mb.toFixed(0)).join(' ')} MB, slope ${slope.toFixed(1)} MB in 100,000 operations`,
  )
  return means[3]! > means[1]! * GROWTH_MAX
    ? [`${name} grew from ${means[1]!.toFixed(0)} to ${means[3]!.toFixed(0)} MB`]
    : []
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Least squares: MB an operation. */
function slopeOf(samples: readonly Sample[]): number {
  const x = mean(samples.map(({ events }) => events))
  const y = mean(samples.map(({ mb }) => mb))
  const over = samples.reduce((sum, { events, mb }) => sum + (events - x) * (mb - y), 0)
  return over / samples.reduce((sum, { events }) => sum + (events - x) ** 2, 0)
}
