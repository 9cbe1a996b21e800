/**
 * `npm run simulate -- …`: the simulated world, and the real daemons in it.
 *
 * - `--seed N --events N` serves the world to real daemons without any fault, and compares.
 * - `--chaos --seed N` is a chaos run, told as it goes.
 * - `--chaos --seeds 1-200 --parallel N` runs many, N at a time (default: one a processor): a line each, and the list
 *   of faults at the end.
 * - `--soak --events N` sends many events through two indexers, and tells the memory of each daemon.
 * - `--network --minutes N --seed N` has a real PDS in place of the world: kills and outages in rounds, each ending in
 *   a comparison.
 *
 * Ends with 0 when nothing differs, else with 1 and the differences.
 */
import { availableParallelism } from 'node:os'
import { type Form, POSITIVE, readOptions, wholeNumber } from '@sluice/sandbox/command-line.ts'
import { chaosRun, missedPoints, tableOf, type ChaosReport } from './chaos.ts'
import { endWithParent, manyRuns, sendReport } from './many.ts'
import { soak } from './soak.ts'

const USAGE = `npm run simulate -- [--seed N] [--events N] [--verbose]
       npm run simulate -- --chaos [--seed N | --seeds 1-200 [--parallel N]] [--events N] [--faults N] [--verbose]
       npm run simulate -- --soak [--seed N] [--events N]
       npm run simulate -- --network [--minutes N] [--seed N]`
const SEEDS: Form = {
  name: 'seeds such as 7, 1-200 or 3,5,9',
  fits: (text) => /^\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*$/.test(text) && text.split(',').every(hasSeeds),
}
const values = readOptions(
  USAGE,
  {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string' },
    events: { type: 'string' },
    faults: { type: 'string' },
    chaos: { type: 'boolean', default: false },
    soak: { type: 'boolean', default: false },
    network: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '60' },
    parallel: { type: 'string', default: String(availableParallelism()) },
    verbose: { type: 'boolean', default: false },
    // One run of many.
    child: { type: 'boolean', default: false },
  },
  {
    seed: wholeNumber(),
    seeds: SEEDS,
    events: wholeNumber(1),
    faults: wholeNumber(),
    minutes: POSITIVE,
    parallel: wholeNumber(1),
  },
)

const events = values.events === undefined ? undefined : Number(values.events)
const say = (line: string): void => void process.stdout.write(`${line}\n`)
if (values.child) {
  endWithParent()
  await sendReport(await run(Number(values.seed)))
} else {
  const problems = values.network
    ? await runOnNetwork()
    : values.soak
      ? await soak({ seed: Number(values.seed), events: events ?? 1_000_000, say })
      : await runAll()
  process.exitCode = problems.length > 0 ? 1 : 0
}

function run(seed: number): Promise<ChaosReport> {
  const prefix = values.child ? `seed ${seed}: ` : ''
  return chaosRun({
    seed,
    ...(events !== undefined && { events }),
    ...(values.faults !== undefined && { faults: Number(values.faults) }),
    ...(!values.chaos && { faults: 0, points: [] }),
    ...((values.verbose || !values.child) && { say: (line) => say(`${prefix}${line}`) }),
  })
}

async function runOnNetwork(): Promise<string[]> {
  // The real PDS takes seconds to load, and nothing else here needs it.
  const { networkSoak, told } = await import('./network-soak.ts')
  const minutes = Number(values.minutes)
  const { problems, fired, guests, vitals } = await networkSoak({ seed: Number(values.seed), minutes, say })
  for (const [name, value] of vitals.at(-1) ?? []) say(`  ${name.padEnd(60)} ${value.toFixed(1)}`)
  say(`${minutes} minutes, ${vitals.length} quiet moments; faults: ${told(fired)}; guests: ${told(guests)}`)
  for (const problem of problems) say(problem)
  return problems
}

async function runAll(): Promise<string[]> {
  const begin = performance.now()
  const told = (report: ChaosReport): void => {
    say(lineOf(report))
    for (const problem of report.problems) say(`    ${problem}`)
  }
  const seeds = seedsOf(values.seeds ?? values.seed)
  const reports =
    seeds.length === 1
      ? [await run(seeds[0]!)]
      : await manyRuns({ seeds, parallel: Number(values.parallel), args: passedOn(), onReport: told })
  if (seeds.length === 1) told(reports[0]!)
  if (values.chaos) say(tableOf(reports))
  const bad = reports.filter((report) => report.problems.length > 0)
  const minutes = ((performance.now() - begin) / 60_000).toFixed(1)
  const which = bad.length > 0 ? `: ${bad.map(({ seed }) => seed).join(', ')}` : ''
  const missed = values.chaos && seeds.length > 1 ? missedPoints(reports) : []
  say(`${reports.length} runs in ${minutes} minutes, ${bad.length} with differences${which}`)
  if (missed.length > 0) say(`crash points that no run hit: ${missed.join(', ')}`)
  return [...bad.flatMap((report) => report.problems), ...missed]
}

/** What a child is told beside its seed. */
function passedOn(): string[] {
  const { chaos, verbose, events: given, faults } = values
  return [
    ...(chaos ? ['--chaos'] : []),
    ...(verbose ? ['--verbose'] : []),
    ...(given === undefined ? [] : ['--events', given]),
    ...(faults === undefined ? [] : ['--faults', faults]),
  ]
}

function lineOf({ seed, seconds, operations, fired, points, poison, problems: found }: ChaosReport): string {
  const faults = [...fired.values(), ...points.values()].reduce((sum, count) => sum + count, 0)
  const verdict = found.length === 0 ? 'well' : `${found.length} DIFFERENCES`
  return `seed ${seed}: ${verdict}, ${operations} operations, ${faults} faults, ${poison} poisoned entries, ${seconds.toFixed(0)} s`
}

/** Whether a part such as `7` or `1-200` does not end before it begins. */
function hasSeeds(part: string): boolean {
  const [first = 0, last = first] = part.split('-').map(Number)
  return last >= first
}

/** `7`, `1-200`, `3,5,9`. */
function seedsOf(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}
