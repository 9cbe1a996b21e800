/**
 * `npm run bench [-- --parts indexer,bulk,latency,streams,ingester,backfiller --events 60000 --peer-events 3000 --sizes 0,1000000 --consumers 1,2 --warm 300000]`
 *
 * **Ours**: the indexer's process, from entries in Redis to committed rows and acks. **The peer**: the official indexer of npm
 * `@atproto/bsky` with the first of the same events. **The floor**: our final rows by plain COPY. All on clones of one database, at each of
 * `sizes` records; right after a checkpoint, or (`--warm`) after so many more events since the last one. Then the bulk path, latency at 1,000
 * events a second beside a backfill, and the benches of the other stages next to the official libraries.
 *
 * Prints tables and writes `docs/benchmarks/<commit>.json`. Rates are noisy on a small machine: compare ratios of one run.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { Bed, type Costs } from './bench/bed.ts'
import { type BulkCosts, measureBulk } from './bench/bulk.ts'
import { type DiskUse, diskUse } from './bench/disk.ts'
import { measureFloor } from './bench/floor.ts'
import { type Latency, measureLatency } from './bench/latency.ts'
import { fill, measureOurs } from './bench/ours.ts'
import { measurePeer } from './bench/peer.ts'
import { Load } from './load.ts'
import { redisVersion } from './redis.ts'
import { TEMPLATE } from './template.ts'

const { values } = parseArgs({
  options: {
    events: { type: 'string', default: '60000' },
    'peer-events': { type: 'string', default: '3000' },
    sizes: { type: 'string', default: '0' },
    consumers: { type: 'string', default: '1,2' },
    parts: { type: 'string', default: 'indexer,bulk,latency,streams,ingester,backfiller' },
    warm: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
  },
})
const EVENTS = Number(values.events)
const SIZES = values.sizes.split(',').map(Number)
/** Indexers side by side, at the first size. */
const CONSUMERS = values.consumers.split(',').map(Number)
const PEER_EVENTS = Number(values['peer-events'])
/** Events between the last checkpoint and each measurement, but no more than there were before. */
const WARM = Number(values.warm)
const PARTS = new Set(values.parts.split(','))
const FILL_CHUNK = 20_000
/** More than is applied while the live events of the latency part come in. */
const LATENCY_BACKFILL = 150_000

/** Benches of the other stages: programs of their own. */
const PROGRAMS: Record<string, string[]> = {
  streams: ['packages/streams/throughput.bench.ts'],
  ingester: ['packages/atproto/commit.bench.ts', 'services/ingester/ingester.bench.ts'],
  backfiller: ['services/backfiller/backfill.bench.ts'],
}

interface Row {
  size: number
  who: string
  events: number
  costs: Costs
}

const load = new Load({ seed: Number(values.seed) })
const rows: Row[] = []
let latency: Latency | undefined
let bulk: BulkCosts | undefined
/** Of the largest size. */
let disk: DiskUse[] = []
if (['indexer', 'bulk', 'latency'].some((part) => PARTS.has(part))) {
  await using bed = await Bed.make({ fromCheckpoint: WARM === 0 })
  let template = TEMPLATE
  let filled = 0
  for (const size of SIZES) {
    if (size > filled) {
      const database = await bed.database(template)
      if (filled > 0) await bed.drop({ name: template })
      say(`filling a database to ${size.toLocaleString('en')} events`)
      await fill(bed, database, chunksOf(size - filled))
      await bed.postgres.query('vacuum analyze', [], database.name)
      disk = await diskUse(bed, database, size)
      template = database.name
      filled = size
    }
    if (PARTS.has('indexer')) await measureAt(bed, size, template, size === SIZES[0] ? CONSUMERS : [1])
  }
  if (PARTS.has('bulk')) {
    say('the bulk path, into an empty index')
    const consumers = Math.max(...CONSUMERS)
    bulk = await measureBulk(bed, await bed.database(), new Load({ seed: Number(values.seed) }).take(EVENTS), consumers)
    rows.push({ size: 0, who: `bulk load × ${consumers}`, events: EVENTS, costs: bulk.load })
    rows.push({ size: 0, who: 'bulk finish', events: EVENTS, costs: bulk.finish })
  }
  if (PARTS.has('latency')) {
    say('latency at 1,000 events/s beside a backfill')
    const backfill = load.take(LATENCY_BACKFILL)
    latency = await measureLatency(bed, await bed.database(template), load.take(15_000), backfill, 1_000)
  }
}
const texts = Object.entries(PROGRAMS).flatMap(([part, files]) => (PARTS.has(part) ? files.map(runProgram) : []))
report()

async function measureAt(bed: Bed, size: number, template: string, consumerCounts: readonly number[]): Promise<void> {
  const warming = [...chunksOf(Math.min(WARM, size))]
  const events = load.take(EVENTS)
  const warmed = async () => {
    const clone = await bed.database(template)
    if (warming.length > 0) await fill(bed, clone, warming)
    return clone
  }
  const database = await warmed()
  const [first] = await bed.postgres.query<{ since: string }>('select pg_current_xact_id()::text as since')
  rows.push({ size, who: 'ours × 1', events: EVENTS, costs: await measureOurs(bed, database, events, 1) })
  const on = async (who: string, count: number, measure: (clone: typeof database) => Promise<Costs>): Promise<void> => {
    say(`${who}, at ${size.toLocaleString('en')} events`)
    const clone = await warmed()
    rows.push({ size, who, events: count, costs: await measure(clone) })
    await bed.drop(clone)
  }
  for (const count of consumerCounts.filter((n) => n > 1)) {
    await on(`ours × ${count}`, EVENTS, (clone) => measureOurs(bed, clone, events, count))
  }
  if (PEER_EVENTS > 0) {
    await on('official', PEER_EVENTS, (clone) => measurePeer(bed, clone, events.slice(0, PEER_EVENTS)))
  }
  for (const order of ['key', 'arrival'] as const) {
    const source = { url: database.url, since: first!.since }
    await on(`COPY by ${order}`, EVENTS, (clone) => measureFloor(bed, source, clone, order))
  }
  await bed.drop(database)
}

function runProgram(file: string): string {
  say(file)
  const { stdout, stderr, status } = spawnSync(process.execPath, [file], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${file} ended with ${status}: ${stderr}`)
  console.log(stdout)
  return stdout
}

function* chunksOf(count: number): Generator<StreamEvent[]> {
  for (let left = count; left > 0; left -= FILL_CHUNK) yield load.take(Math.min(FILL_CHUNK, left))
}

function report(): void {
  const header = ['records', 'who', 'events/s', 'node µs', 'postgres µs', 'redis µs', 'WAL B', 'statements', 'tx']
  const table = rows.map(({ size, who, events, costs }) => [
    size.toLocaleString('en'),
    who,
    Math.round(events / costs.seconds).toLocaleString('en'),
    perEvent(costs.node * 1e6, events),
    perEvent(costs.postgres * 1e6, events),
    perEvent(costs.redis * 1e6, events),
    perEvent(costs.walBytes, events),
    (costs.statements / events).toFixed(3),
    (costs.transactions / events).toFixed(4),
  ])
  if (rows.length > 0) console.log(`\n${grid([header, ...table])}\n(µs, bytes, statements and transactions per event)`)
  if (bulk) {
    const seconds = bulk.load.seconds + bulk.finish.seconds
    console.log(
      `bulk, load and finish: ${Math.round(EVENTS / seconds).toLocaleString('en')} events/s; steps in s: ${JSON.stringify(bulk.steps, (_, v: unknown) => (typeof v === 'number' ? Number(v.toFixed(2)) : v))}`,
    )
  }
  const ratios = ratiosOf()
  for (const line of ratios) console.log(line)
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
    console.log(`\nMB on disk per million events, at ${SIZES.at(-1)!.toLocaleString('en')}`)
    console.log(grid([['rows', 'table', 'heap', 'indexes'], ...use]))
  }
  const commit = execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
  const dir = join(import.meta.dirname, '../../docs/benchmarks')
  mkdirSync(dir, { recursive: true })
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, node: process.version, redis: redisVersion() }
  const file = join(dir, `${commit}.json`)
  writeFileSync(
    file,
    `${JSON.stringify({ commit, machine, warm: WARM, rows, ratios, disk, bulk, latency, texts }, null, 2)}\n`,
  )
  console.log(`written to ${file}`)
}

function ratiosOf(): string[] {
  const compared = rows.filter(({ who }) => who === 'ours × 1')
  return compared.map(({ size }) => {
    const rate = (who: string): number => {
      const row = rows.find((r) => r.size === size && r.who === who)
      return row ? row.events / row.costs.seconds : NaN
    }
    const ours = rate('ours × 1')
    return (
      `at ${size.toLocaleString('en')}: ours/official ${(ours / rate('official')).toFixed(1)}, ` +
      `ours/COPY by key ${(ours / rate('COPY by key')).toFixed(2)}, by arrival ${(ours / rate('COPY by arrival')).toFixed(2)}`
    )
  })
}

function perEvent(total: number, events: number): string {
  return (total / events).toFixed(1)
}

function grid(lines: readonly string[][]): string {
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)))
  return lines
    .map((line) => line.map((cell, i) => (i === 1 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '))
    .join('\n')
}

function say(text: string): void {
  console.log(`· ${text}`)
}
