/**
 * A chaos run: real daemons, Redis and PostgreSQL serve a simulated world, while everything that can go wrong does, in
 * the order of the seed. At the end the index is the truth, the streams are empty, the dead letters are the poison, and
 * nobody is left.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CRASH_POINTS, type CrashPoint } from '@sluice/runtime/crash-points.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { noProcessLeft } from '@sluice/sandbox/leftovers.ts'
import { beginBulk, finishBulkThroughCrash } from './bulk-load.ts'
import { censusOf } from './census.ts'
import { crashAt, DAEMON_POINTS } from './crash.ts'
import { FAULTS, possibleFaults, type FaultName } from './faults.ts'
import { deadLetterDifferences } from './poison.ts'
import { untilQuiet } from './quiet.ts'
import { Locks, type Scene } from './scene.ts'
import { System } from './system.ts'
import { World } from './world.ts'

export interface ChaosOptions {
  seed: number
  /** At the least; traffic goes on until the last fault. */
  events?: number
  /** Faults beside the crash points; the first so many of a shuffle of all kinds, again and again. */
  faults?: number
  points?: readonly CrashPoint[]
  say?: (line: string) => void
}

export interface ChaosReport {
  seed: number
  seconds: number
  operations: number
  done: Readonly<Record<string, number>>
  /** Name → how often it was injected and seen to fire. */
  fired: Map<string, number>
  points: Map<CrashPoint, number>
  poison: number
  /** How much of each kind was compared (`census.ts`). */
  census: Readonly<Record<string, number>>
  /** None: the run was well. */
  problems: string[]
}

/** The report of a run that has done nothing yet. */
export function blankReport(seed: number): ChaosReport {
  return {
    seed,
    seconds: 0,
    operations: 0,
    done: {},
    fired: new Map(),
    points: new Map(),
    poison: 0,
    census: {},
    problems: [],
  }
}

/** So many faults at the same time, of those that can be. */
const WIDTH = 3
const QUIET_MS = 300_000

/**
 * Half of the points, by turns: two seeds that follow each other hit them all. A purge waits for the end of a bulk
 * load, so none is died in there.
 */
function pointsOf(seed: number): readonly CrashPoint[] {
  return DAEMON_POINTS.filter((name, i) => (name === 'purge.between' ? !isBulk(seed) : i % 2 === Math.abs(seed) % 2))
}

export async function chaosRun(options: ChaosOptions): Promise<ChaosReport> {
  const { seed, points = pointsOf(seed) } = options
  const begin = performance.now()
  const say = (line: string): void =>
    options.say?.(`${((performance.now() - begin) / 1000).toFixed(1).padStart(6)} s  ${line}`)
  const nobodyLeft = noProcessLeft(`seed ${seed}`)
  const report = blankReport(seed)
  try {
    await using world = await World.start({ seed })
    await using system = await System.start({
      world,
      smallDisk: options.faults !== 0,
      appendfsync: seed % 3 === 0 ? 'everysec' : 'always',
    })
    const scene: Scene = { system, world, random: new Random(seed), poison: [], troubled: [], locks: new Locks() }
    const bulk = isBulk(seed) && points.length > 0
    if (bulk) await beginBulk(system)
    await system.startAll()
    say(`all daemons are up${bulk ? ', in a bulk load' : ''}`)
    const possible = possibleFaults(system)
    const plan = planOf(scene.random, { possible, faults: options.faults ?? possible.length, points })
    await injected(scene, { plan, bulk, options, report, say })
    world.finish()
    const { operations, done, truth } = world
    Object.assign(report, {
      operations,
      done,
      poison: scene.poison.length,
      census: Object.fromEntries(censusOf(truth)),
    })
    say(`all faults were injected, ${operations} operations`)
    report.problems.push(...(await untilQuiet(system, world, { withinMs: QUIET_MS, say })))
    say('quiet')
    if (report.problems.length === 0) {
      world.leave()
      report.problems.push(...(await untilQuiet(system, world, { withinMs: QUIET_MS, say })))
    }
    report.problems.push(...(await deadLetterDifferences(system, scene.poison)))
    report.problems.push(...troubles(scene))
    say('quiet again')
    if (report.problems.length === 0) await system.stopAll()
    report.problems.push(...system.surprises)
  } catch (error) {
    report.problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  await nobodyLeft().catch((error: unknown) => report.problems.push(String(error)))
  report.seconds = (performance.now() - begin) / 1000
  return report
}

/** Every second run begins as the first load of a network. */
function isBulk(seed: number): boolean {
  return seed % 2 === 0
}

type Step = { fault: FaultName } | { point: CrashPoint }

function planOf(
  random: Random,
  { possible, faults, points }: { possible: FaultName[]; faults: number; points: readonly CrashPoint[] },
): Step[] {
  const names: FaultName[] = []
  while (names.length < faults) names.push(...random.shuffled(possible))
  return random.shuffled<Step>([
    ...names.slice(0, faults).map((fault) => ({ fault })),
    ...points.map((point) => ({ point })),
  ])
}

interface Injection {
  plan: Step[]
  bulk: boolean
  options: ChaosOptions
  report: ChaosReport
  say: (line: string) => void
}

/** Traffic and faults beside each other, until both are through. */
async function injected(scene: Scene, injection: Injection): Promise<void> {
  const { plan, bulk, options, report, say } = injection
  const { world, random, system } = scene
  const least = world.operations + (options.events ?? 1_500)
  const over = new AbortController()
  const steps = plan.entries()
  const faults = async (): Promise<void> => {
    for (const [i, step] of steps) {
      if (system.surprises.length > 0 || over.signal.aborted) return
      await inject({ ...scene, random: new Random(world.seed * 1_000 + i) }, step, injection)
    }
  }
  const all = async (): Promise<void> => {
    try {
      await allOf(Array.from({ length: WIDTH }, () => faults().catch((error) => (over.abort(), Promise.reject(error)))))
      if (!bulk) return
      await finishBulkThroughCrash(system, (limit) => random.below(limit))
      report.points.set('bulk.step', 1)
      say('crash point bulk.step in sluice bulk finish')
    } finally {
      over.abort()
    }
  }
  await allOf([traffic(world, { until: over.signal, least }), all()])
}

/** A steady trickle, with a crowd now and then; what is missing when the faults are over comes fast. */
async function traffic(world: World, { until, least }: { until: AbortSignal; least: number }): Promise<void> {
  const random = new Random(-world.seed)
  while (!until.aborted || world.operations < least) {
    for (let i = until.aborted ? 10 : random.chance(0.02) ? 60 : random.below(4); i > 0; i--) world.next()
    await delay(until.aborted ? 20 : 50)
  }
}

async function inject(scene: Scene, step: Step, { report, say }: Injection): Promise<void> {
  await delay(scene.random.below(400))
  if ('fault' in step) {
    await FAULTS[step.fault](scene)
    report.fired.set(step.fault, (report.fired.get(step.fault) ?? 0) + 1)
    say(step.fault)
  } else {
    const who = await crashAt(scene, step.point)
    report.points.set(step.point, (report.points.get(step.point) ?? 0) + 1)
    say(`crash point ${step.point} in ${who}`)
  }
}

/** All have ended when the first failure is thrown. */
async function allOf(parts: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(parts)
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** Faults of single repositories must have happened by now. */
function troubles({ troubled }: Scene): string[] {
  return troubled.flatMap(({ did, fault, fired, document }) => {
    if (fired > 0 || document === 'tombstoned') return []
    return [`the fault of ${did} (${fault?.kind}) did not fire`]
  })
}

/** Crash points at which nobody died. */
export function missedPoints(reports: readonly ChaosReport[]): CrashPoint[] {
  return CRASH_POINTS.filter((point) => !reports.some(({ points }) => points.has(point)))
}

/** What was injected, as text: the table of faults, and that of crash points. */
export function tableOf(reports: readonly ChaosReport[]): string {
  const sum = (name: string, of: (report: ChaosReport) => ReadonlyMap<string, number>): number =>
    reports.reduce((total, report) => total + (of(report).get(name) ?? 0), 0)
  const row = (name: string, count: number): string => `  ${name.padEnd(28)} ${String(count).padStart(6)}`
  return [
    'faults that fired',
    ...Object.keys(FAULTS).map((name) =>
      row(
        name,
        sum(name, ({ fired }) => fired),
      ),
    ),
    row(
      'poisoned entries',
      reports.reduce((total, { poison }) => total + poison, 0),
    ),
    'crash points that were hit',
    ...CRASH_POINTS.map((name) =>
      row(
        name,
        sum(name, ({ points }) => points),
      ),
    ),
  ].join('\n')
}
