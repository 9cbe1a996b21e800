/**
 * `npm run simulate -- …`: the simulated world, and the real daemons in it.
 *
 * | command                                | what it does                                                                              |
 * |----------------------------------------|-------------------------------------------------------------------------------------------|
 * | `--seed N --events N`                  | serves the world to real daemons without any fault, and compares                          |
 * | `--chaos --seed N` or `--seeds 1-200`  | chaos runs, one after the other, with a line for each and the list of faults at the end   |
 * | `--soak --events N`                    | many events through two indexers, with the memory of each daemon                          |
 *
 * Ends with 0 when nothing differs, else with 1 and the differences.
 */
import { parseArgs } from 'node:util'
import { chaosRun, tableOf, type ChaosReport } from './chaos.ts'
import { soak } from './soak.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string' },
    events: { type: 'string' },
    faults: { type: 'string' },
    chaos: { type: 'boolean', default: false },
    soak: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
})

const events = values.events === undefined ? undefined : Number(values.events)
const say = (line: string): void => void process.stdout.write(`${line}\n`)
const problems = values.soak
  ? await soak({ seed: Number(values.seed), events: events ?? 1_000_000, say })
  : await runAll()
process.exitCode = problems.length > 0 ? 1 : 0

async function runAll(): Promise<string[]> {
  const reports: ChaosReport[] = []
  for (const seed of seedsOf(values.seeds ?? values.seed)) {
    const report = await chaosRun({
      seed,
      ...(events !== undefined && { events }),
      ...(values.faults !== undefined && { faults: Number(values.faults) }),
      ...(!values.chaos && { faults: 0, points: [] }),
      ...((values.verbose || values.seeds === undefined) && { say }),
    })
    reports.push(report)
    say(lineOf(report))
    for (const problem of report.problems) say(`    ${problem}`)
  }
  if (values.chaos) say(tableOf(reports))
  const bad = reports.filter((report) => report.problems.length > 0)
  say(
    `${reports.length} runs, ${bad.length} with differences${bad.length > 0 ? `: ${bad.map(({ seed }) => seed).join(', ')}` : ''}`,
  )
  return bad.flatMap((report) => report.problems)
}

function lineOf({ seed, seconds, operations, fired, points, poison, problems: found }: ChaosReport): string {
  const faults = [...fired.values(), ...points.values()].reduce((sum, count) => sum + count, 0)
  const verdict = found.length === 0 ? 'well' : `${found.length} DIFFERENCES`
  return `seed ${seed}: ${verdict}, ${operations} operations, ${faults} faults, ${poison} poisoned entries, ${seconds.toFixed(0)} s`
}

/** `7`, `1-200`, `3,5,9`. */
function seedsOf(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}
