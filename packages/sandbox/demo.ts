/**
 * `npm run demo [-- --once] [-- --people N --before N --during N --seed N]`: a real network on this machine, indexed
 * before your eyes.
 *
 * A PDS, a PLC directory and a labeler (the programs of npm, offline) are filled with accounts and records; only then
 * the three daemons start, so the first part arrives through `repo_backfill` and `firehose_backfill`, and what people
 * do from then on through `firehose_live` and `label_live`. At the end, every record, label, handle and counter is
 * compared.
 *
 * With `--once` it ends by itself: 0 when all agrees, 1 with the differences. Else people go on until Ctrl-C, and the
 * comparison comes then. A second Ctrl-C ends at once. Nothing is left behind.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { readOptions, wholeNumber } from './command-line.ts'
import { Beside } from './demo/beside.ts'
import { compare, type Comparison, renderComparison } from './demo/comparison.ts'
import { FigureReader, type Figures } from './demo/figures.ts'
import { showLive } from './demo/live-table.ts'
import { type Daemons, startDaemons, Stores } from './demo/stack.ts'
import type { Network } from './network.ts'
import type { Population as People } from './population.ts'

const values = readOptions(
  'npm run demo [-- --once --people 24 --before 1200 --during N --seed 1]',
  {
    once: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    people: { type: 'string', default: '24' },
    before: { type: 'string', default: '1200' },
    during: { type: 'string' },
  },
  { seed: wholeNumber(), people: wholeNumber(1), before: wholeNumber(), during: wholeNumber() },
)
/** Without `--once`: more than anybody will watch. */
const during = Number(values.during ?? (values.once ? 300 : 20_000))
const plan = { seed: Number(values.seed), people: Number(values.people), before: Number(values.before), during }

const PACE_MS = values.once ? 0 : 150
/** So long may what has been written take to arrive. */
const ARRIVAL_MS = 180_000

const stopping = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // The guard (`guard.ts`) ends what we started when this process is gone.
    if (stopping.signal.aborted) process.exit(130)
    stopping.abort()
  })
}

const comparison = await run()
console.log(`\n${renderComparison(comparison)}`)
if (values.once || comparison.differences.length > 0) process.exitCode = comparison.differences.length > 0 ? 1 : 0

async function run(): Promise<Comparison> {
  say('starting PostgreSQL and Redis')
  await using stores = await Stores.start()
  say('starting a PDS, a PLC directory and a labeler')
  // They take seconds to load: who asks for --help, or mistypes an option, does not wait for them.
  const [{ startNetwork }, { Population }] = [await import('./network.ts'), await import('./population.ts')]
  await using network = await startNetwork({ labelerDatabaseUrl: await stores.postgres.createDatabase('labeler') })
  say(`filling the PDS: ${plan.people} accounts, ${plan.before} actions`)
  const population = await Population.create(network, plan)
  await population.populate()
  say('starting the indexer, the backfiller and the ingester')
  const env = {
    RELAY_HOSTS: network.pds.url,
    LABELER_HOSTS: network.labeler.url,
    PLC_URL: network.plcUrl,
    ALLOW_PRIVATE_HOSTS: 'true',
  }
  await using daemons = await startDaemons(stores, env)
  using beside = new Beside(stores, daemons, env)
  say(`beside it, from another terminal: ${beside.command} status`)
  const ended = Promise.race([daemons.ended(), stores.ended()]).then((what): never => {
    throw new Error(what)
  })
  return await Promise.race([watch({ stores, daemons }, network, population), ended])
}

async function watch(
  { stores, daemons }: { stores: Stores; daemons: Daemons },
  network: Network,
  population: People,
): Promise<Comparison> {
  await using reader = await FigureReader.open(stores, daemons)
  const watching = new AbortController()
  let headline = 'people post, like, follow and delete while the daemons run'
  if (!values.once) headline += ' (Ctrl-C to stop and compare)'
  const table = showLive({ reader, headline: () => headline, signal: watching.signal })
  try {
    await population.traffic({ paceMs: PACE_MS, signal: stopping.signal })
    headline = 'waiting for the last events to arrive'
    return await arrival(async () =>
      withStreams(await compare(network, population, (text) => stores.query(text)), await reader.read()),
    )
  } finally {
    watching.abort()
    await table
  }
}

/**
 * Compares until all agrees, or until time is up; a store that is away meanwhile is one that differs.
 * @throws what the last comparison threw
 */
async function arrival(compareAll: () => Promise<Comparison>): Promise<Comparison> {
  const deadline = Date.now() + ARRIVAL_MS
  for (;;) {
    try {
      const result = await compareAll()
      if (result.differences.length === 0 || Date.now() > deadline) return result
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
    await sleep(500)
  }
}

/** Every stream must have carried something, or the demo shows less than it says. */
function withStreams({ rows, differences }: Comparison, { streams }: Figures): Comparison {
  const carried = streams.map(({ name, appended, depth }) => ({
    what: `entries by ${name}`,
    expected: appended,
    found: appended - depth,
  }))
  const silent = carried.filter(({ expected }) => expected === 0).map(({ what }) => `no ${what}`)
  return { rows: [...carried, ...rows], differences: [...silent, ...differences] }
}

function say(text: string): void {
  console.log(`· ${text}`)
}
