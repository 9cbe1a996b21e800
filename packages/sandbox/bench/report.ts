/** The tables and ratios that `npm run bench` prints. */
import type { Costs } from './bed.ts'
import type { BulkCosts } from './bulk.ts'
import type { DiskUse } from './disk.ts'
import { type GrowthWindow, rateOf, wholeCheckpoint } from './growth.ts'
import type { Latency } from './latency.ts'

/** One measurement: `events` by `who`, into a database that had `size` events before. */
export interface Row {
  size: number
  who: string
  events: number
  costs: Costs
}

/** What a ratio needs of a row. */
type Measured = Pick<Row, 'size' | 'who' | 'events'> & { costs: Pick<Costs, 'seconds'> }

export interface Results {
  rows: readonly Row[]
  growth: readonly GrowthWindow[]
  bulk: BulkCosts | undefined
  latency: Latency | undefined
  disk: readonly DiskUse[]
  /** The number of events at which `disk` was read. */
  diskAt: number
}

/** Prints all tables and ratios. */
export function printResults({ rows, growth, bulk, latency, disk, diskAt }: Results): void {
  const header = [
    'records',
    'who',
    'events/s',
    'node µs',
    'postgres µs',
    'redis µs',
    'others µs',
    'WAL B',
    'statements',
    'tx',
  ]
  const table = rows.map(({ size, who, events, costs }) => [
    size.toLocaleString('en'),
    who,
    Math.round(events / costs.seconds).toLocaleString('en'),
    perEvent(costs.node * 1e6, events),
    perEvent(costs.postgres * 1e6, events),
    perEvent(costs.redis * 1e6, events),
    perEvent(costs.others * 1e6, events),
    perEvent(costs.walBytes, events),
    (costs.statements / events).toFixed(3),
    (costs.transactions / events).toFixed(4),
  ])
  if (rows.length > 0) console.log(`\n${grid([header, ...table])}\n(µs, bytes, statements and transactions per event)`)
  if (bulk) {
    const { entries, live, load, finish } = bulk
    const seconds = load.seconds + finish.seconds
    console.log(
      `bulk, load and finish: ${Math.round(entries / seconds).toLocaleString('en')} entries/s, ${(live.seconds / seconds).toFixed(2)} times the live path, ${bulk.megabytes.toLocaleString('en')} MB; steps in s: ${JSON.stringify(bulk.steps, (_, v: unknown) => (typeof v === 'number' ? Number(v.toFixed(2)) : v))}`,
    )
  }
  for (const line of ratiosOf(rows)) console.log(line)
  if (growth.length > 0) describeGrowth(growth)
  if (latency) {
    const { p50Ms, p99Ms, maxMs, samples, backfilled } = latency
    console.log(
      `XADD → visible at 1,000 events/s: p50 ${p50Ms} ms, p99 ${p99Ms} ms, max ${maxMs} ms (${samples} samples; ${backfilled} backfill events meanwhile)`,
    )
  }
  if (disk.length > 0) {
    const use = disk.map(({ table, rows: n, tableMb, indexMb }) => [
      n.toLocaleString('en'),
      table,
      `${tableMb}`,
      `${indexMb}`,
    ])
    console.log(`\nMB on disk per million events, at ${diskAt.toLocaleString('en')}`)
    console.log(grid([['rows', 'table', 'heap', 'indexes'], ...use]))
  }
}

/** At five million events, as the aim has it; the first 600,000 are the index of 100,000 to which it is compared. */
function describeGrowth(growth: readonly GrowthWindow[]): void {
  const cycle = wholeCheckpoint(growth, 5_000_000)
  if (cycle.length === 0) return console.log('growth: no two checkpoints began; with more --growth-events they would')
  const first = rateOf(growth.filter(({ before }) => before < 600_000))
  const [from, to] = [cycle[0]!.before, cycle.at(-1)!.before + cycle.at(-1)!.events].map((n) => n.toLocaleString('en'))
  const slower = Math.round((1 - rateOf(cycle) / first) * 1000) / 10
  console.log(
    `growth, from one checkpoint to the next (${from} to ${to} events): ${Math.round(rateOf(cycle))} events/s, ${slower} % less than the ${Math.round(first)} of the first 600,000`,
  )
}

/** One line for each size at which ours was measured. Of what was measured several times there, the median counts. */
export function ratiosOf(rows: readonly Measured[]): string[] {
  const sizes = new Set(rows.filter(({ who }) => who === 'ours × 1').map(({ size }) => size))
  return [...sizes].map((size) => {
    const rate = (who: string): number => {
      const measured = rows.filter((row) => row.size === size && row.who === who)
      return median(measured.map(({ events, costs }) => events / costs.seconds))
    }
    const ours = rate('ours × 1')
    return (
      `at ${size.toLocaleString('en')}: ours/official ${(ours / rate('official')).toFixed(1)}, ` +
      `ours/COPY by key ${(ours / rate('COPY by key')).toFixed(2)}, by arrival ${(ours / rate('COPY by arrival')).toFixed(2)}`
    )
  })
}

/** NaN of nothing; of an even number, the mean of the two in the middle. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]]
  return low === undefined || high === undefined ? NaN : (low + high) / 2
}

export function perEvent(total: number, events: number): string {
  return (total / events).toFixed(1)
}

function grid(lines: readonly string[][]): string {
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)))
  return lines
    .map((line) => line.map((cell, i) => (i === 1 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '))
    .join('\n')
}
