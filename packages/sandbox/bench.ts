/**
 * `npm run bench [-- --parts indexer,bulk,latency,streams,ingester,backfiller,growth --events 240000 --peer-events 3000
 * --rounds 1 --sizes 0,1000000 --consumers 1,2 --bulk-events 1000000 --growth-events 6600000 --warm 100000
 * --postgres-mb 1024]`
 *
 * **Ours**: the indexer's process, from entries in Redis to committed rows and acks. **The peer**: the official indexer
 * of npm `@atproto/bsky` with the first of the same events. **The floor**: the rows that ours made, written by plain
 * COPY. All on clones of one database, at each of `sizes` records, and warm: after the last checkpoint the same process
 * applied `--warm` events before the measurement. Production is always warm, except in its first seconds. At size 0
 * everything is cold, with a process just started. With `--warm 0` every measurement is cold, and right after a
 * checkpoint. Then come the bulk path, latency at 1,000 events a second beside a backfill, and the benches of the other
 * stages next to the official libraries. The part `growth` runs only when it is named: it takes half an hour.
 *
 * Prints tables and writes `docs/benchmarks/<commit>.json`. Rates are noisy on a small machine: compare ratios of one
 * run. With several `--rounds` ours and COPY are measured in turn, and the ratios are those of the medians.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import type { EntryFields } from '@sluice/events/codec.ts'
import { Bed, type Costs } from './bench/bed.ts'
import { type BulkCosts, measureBulk } from './bench/bulk.ts'
import { type DiskUse, diskUse } from './bench/disk.ts'
import { Exports } from './bench/exports.ts'
import { measureFloor } from './bench/floor.ts'
import { type GrowthWindow, measureGrowth } from './bench/growth.ts'
import { type Latency, measureLatency } from './bench/latency.ts'
import { encode, fill, measureOurs } from './bench/ours.ts'
import { measurePeer } from './bench/peer.ts'
import { perEvent, printResults, ratiosOf, type Row } from './bench/report.ts'
import { readOptions, someOf, WHOLE_NUMBERS, wholeNumber } from './command-line.ts'
import { Load } from './load.ts'
import { redisVersion } from './redis.ts'
import { TEMPLATE } from './template.ts'

const USAGE = `npm run bench [-- --parts indexer,bulk,latency,streams,ingester,backfiller --events 240000 --peer-events 3000
  --rounds 1 --sizes 0,100000 --consumers 1,2 --bulk-events 1000000 --growth-events 6600000 --warm 100000 --seed 1 --postgres-mb N]
  another part: growth`
const PARTS_BY_DEFAULT = ['indexer', 'bulk', 'latency', 'streams', 'ingester', 'backfiller']
const values = readOptions(
  USAGE,
  {
    events: { type: 'string', default: '240000' },
    'peer-events': { type: 'string', default: '3000' },
    rounds: { type: 'string', default: '1' },
    sizes: { type: 'string', default: '0,100000' },
    consumers: { type: 'string', default: '1,2' },
    parts: { type: 'string', default: PARTS_BY_DEFAULT.join(',') },
    'bulk-events': { type: 'string', default: '1000000' },
    'growth-events': { type: 'string', default: '6600000' },
    warm: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    'postgres-mb': { type: 'string' },
  },
  {
    events: wholeNumber(1),
    'peer-events': wholeNumber(1),
    rounds: wholeNumber(1),
    sizes: WHOLE_NUMBERS,
    consumers: WHOLE_NUMBERS,
    parts: someOf([...PARTS_BY_DEFAULT, 'growth']),
    'bulk-events': wholeNumber(1),
    'growth-events': wholeNumber(1),
    warm: wholeNumber(),
    seed: wholeNumber(),
    'postgres-mb': wholeNumber(1),
  },
)
/**
 * Thirty batches. With few batches the last one would count too much, since the other lane has nothing to do beside it.
 */
const EVENTS = Number(values.events)
/** How often ours and COPY are measured at each size. */
const ROUNDS = Number(values.rounds)
const SIZES = values.sizes.split(',').map(Number)
/** The numbers of indexers to run side by side, at the first size. */
const CONSUMERS = values.consumers.split(',').map(Number)
/** The number of events of the network whose first load is measured. */
const BULK_EVENTS = Number(values['bulk-events'])
const PEER_EVENTS = Number(values['peer-events'])
/** How many events the measured process applies before each measurement, after the last checkpoint. */
const WARM = Number(values.warm)
/**
 * How much of the machine's memory PostgreSQL may take. With little, the index is many times larger than memory, as a
 * whole network's is.
 */
const POSTGRES_MB = values['postgres-mb'] === undefined ? undefined : Number(values['postgres-mb'])
const PARTS = new Set(values.parts.split(','))
/** Read before anything is measured: without git the bench fails here, and not after hours with its results. */
const COMMIT = execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
/** The official indexer needs fewer events to be warm, and more would take minutes. */
const PEER_WARM = 1_000
const FILL_CHUNK = 20_000
/** A window of the part `growth`. */
const GROWTH_WINDOW = 300_000
const RUN_IN = 150_000
/** More events than are applied while the live events of the latency part arrive. */
const LATENCY_BACKFILL = 150_000

/** The benches of the other stages, which are programs of their own. */
const PROGRAMS: Record<string, string[]> = {
  streams: ['packages/streams/throughput.bench.ts'],
  ingester: ['packages/atproto/commit.bench.ts', 'services/ingester/ingester.bench.ts'],
  backfiller: ['services/backfiller/backfill.bench.ts'],
}

const load = new Load({ seed: Number(values.seed) })
const rows: Row[] = []
/** Whether PostgreSQL has huge pages: runs with and without them cannot be compared. */
let hugePages: boolean | undefined
let latency: Latency | undefined
let bulk: BulkCosts | undefined
let growth: GrowthWindow[] = []
/** The disk use at the largest size. */
let disk: DiskUse[] = []
if (['indexer', 'bulk', 'latency'].some((part) => PARTS.has(part))) {
  await using bed = await Bed.make({ fromCheckpoint: WARM === 0, postgresMb: POSTGRES_MB })
  hugePages = await bed.hasHugePages()
  say(`PostgreSQL's shared memory is in ${hugePages ? 'huge' : 'small'} pages (docs/operations.md)`)
  say('running the servers in')
  await runIn(bed)
  let template = TEMPLATE
  let filled = 0
  for (const size of SIZES) {
    const before = Math.max(0, size - WARM)
    if (before > filled) {
      const database = await bed.database(template)
      if (filled > 0) await bed.drop({ name: template })
      say(`filling a database to ${before.toLocaleString('en')} events`)
      await fill(bed, database, chunksOf(before - filled))
      // Analyze without vacuum. A vacuum of everything that was ever deleted leaves a hole on every other page, and the
      // measured rows would be written into these holes.
      await bed.postgres.query('analyze', [], database.name)
      disk = await diskUse(bed, database, before)
      template = database.name
      filled = before
    }
    if (PARTS.has('indexer')) await measureAt(bed, size, template, size === SIZES[0] ? CONSUMERS : [1])
  }
  if (PARTS.has('bulk')) {
    say('the bulk path, into an empty index')
    using network = new Exports()
    const history = new Load({ seed: Number(values.seed) })
    for (let left = BULK_EVENTS; left > 0; left -= FILL_CHUNK) network.add(history.take(Math.min(FILL_CHUNK, left)))
    bulk = await measureBulk(bed, network)
    const { entries: events, live, load, finish } = bulk
    measured({ size: 0, who: 'repositories, live path', events, costs: live })
    measured({ size: 0, who: 'repositories, bulk load', events, costs: load })
    measured({ size: 0, who: 'repositories, bulk finish', events, costs: finish })
  }
  if (PARTS.has('latency')) {
    say('latency at 1,000 events/s beside a backfill')
    const warming = [...chunksOf(WARM)]
    const backfill = encode(load.take(LATENCY_BACKFILL))
    latency = await measureLatency(bed, await bed.database(template), load.take(15_000), backfill, 1_000, warming)
  }
}
if (PARTS.has('growth')) {
  await using bed = await Bed.make({ fromCheckpoint: false, postgresMb: POSTGRES_MB, checkpoints: true })
  hugePages = await bed.hasHugePages()
  say(`an index that grows; PostgreSQL's shared memory is in ${hugePages ? 'huge' : 'small'} pages`)
  await bed.recycleWal()
  const windows = chunksOf(Number(values['growth-events']), GROWTH_WINDOW)
  growth = await measureGrowth(bed, await bed.database(), windows, ({ before, events, costs }) => {
    measured({ size: before, who: 'growing', events, costs })
  })
}
const texts = Object.entries(PROGRAMS).flatMap(([part, files]) => (PARTS.has(part) ? files.map(runProgram) : []))
printResults({ rows, growth, bulk, latency, disk, diskAt: SIZES.at(-1)! })
write()

async function measureAt(bed: Bed, size: number, template: string, consumerCounts: readonly number[]): Promise<void> {
  const warming = [...chunksOf(Math.min(WARM, size))]
  const start = warming.length > 0 ? PEER_WARM : 0
  const forPeer = load.take(start + PEER_EVENTS)
  const events = encode([...forPeer, ...load.take(Math.max(0, EVENTS - forPeer.length))]).slice(0, EVENTS)
  const database = await bed.database(template)
  let since = ''
  const onWarm = async () => {
    const [row] = await bed.postgres.query<{ since: string }>('select pg_current_xact_id()::text as since')
    since = row!.since
  }
  say(`ours, at ${size.toLocaleString('en')} events`)
  measured({
    size,
    who: 'ours × 1',
    events: EVENTS,
    costs: await measureOurs(bed, database, [events], { warming, onWarm }),
  })
  const on = async (who: string, count: number, measure: (clone: typeof database) => Promise<Costs>): Promise<void> => {
    say(`${who}, at ${size.toLocaleString('en')} events`)
    const clone = await bed.database(template)
    measured({ size, who, events: count, costs: await measure(clone) })
    await bed.drop(clone)
  }
  for (const consumers of consumerCounts.filter((n) => n > 1)) {
    await on(`ours × ${consumers}`, EVENTS, (clone) => measureOurs(bed, clone, [events], { consumers, warming }))
  }
  if (PEER_EVENTS > 0) {
    await on('official', PEER_EVENTS, async (clone) => {
      if (warming.length > 0) await fill(bed, clone, warming)
      return measurePeer(bed, clone, forPeer.slice(start), forPeer.slice(0, start))
    })
  }
  const floors = [
    { who: 'COPY by key', order: 'key', connections: 1 },
    { who: 'COPY by arrival', order: 'arrival', connections: 1 },
    { who: 'COPY by arrival × 2', order: 'arrival', connections: 2 },
  ] as const
  for (let round = 1; round <= ROUNDS; round++) {
    if (round > 1) await on('ours × 1', EVENTS, (clone) => measureOurs(bed, clone, [events], { warming }))
    for (const { who, order, connections } of floors) {
      await on(who, EVENTS, async (clone) => {
        if (warming.length > 0) await fill(bed, clone, warming)
        return measureFloor(bed, { url: database.url, since }, clone, order, connections)
      })
    }
  }
  await bed.drop(database)
}

/** Prints each result at once, so that a long run that fails later is not lost. */
function measured(row: Row): void {
  rows.push(row)
  const { events, costs } = row
  const spent = (['node', 'postgres', 'redis', 'others'] as const).map(
    (who) => `${who} ${perEvent(costs[who] * 1e6, events)}`,
  )
  say(`  ${Math.round(events / costs.seconds)} events/s; µs an event: ${spent.join(', ')}`)
}

/**
 * Runs the server in. A server that has just started touches each page of its memory for the first time, which cost the
 * first measurement 15 µs an event.
 */
async function runIn(bed: Bed): Promise<void> {
  const database = await bed.database()
  await fill(bed, database, [encode(new Load({ seed: 0 }).take(RUN_IN))])
  await bed.drop(database)
  await bed.recycleWal()
}

function runProgram(file: string): string {
  say(file)
  const { stdout, stderr, status } = spawnSync(process.execPath, [file], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${file} ended with ${status}: ${stderr}`)
  console.log(stdout)
  return stdout
}

function* chunksOf(count: number, size = FILL_CHUNK): Generator<EntryFields[]> {
  for (let left = count; left > 0; left -= size) yield encode(load.take(Math.min(size, left)))
}

function write(): void {
  const dir = join(import.meta.dirname, '../../docs/benchmarks')
  mkdirSync(dir, { recursive: true })
  const machine = {
    cpus: cpus().length,
    model: cpus()[0]?.model,
    node: process.version,
    redis: redisVersion(),
    hugePages,
    postgresMb: POSTGRES_MB,
  }
  const file = join(dir, `${COMMIT}.json`)
  writeFileSync(
    file,
    `${JSON.stringify({ commit: COMMIT, machine, warm: WARM, rows, ratios: ratiosOf(rows), disk, bulk, growth, latency, texts }, null, 2)}\n`,
  )
  console.log(`written to ${file}`)
}

function say(text: string): void {
  console.log(`· ${text}`)
}
