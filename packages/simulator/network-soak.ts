/**
 * A soak on a real network: a PDS, a directory and a labeler (the programs of npm), an ingester, two backfillers and
 * two indexers with the settings of production, while people write, guests come and go, daemons are killed, stopped and
 * frozen, their stores crash, and the PDS is away now and then.
 *
 * Rounds of trouble end in a quiet moment, in which everything must have come true: streams, pending lists and dead
 * letters are empty, cursors at the end, the rows are what the PDS holds, counters what a recount says, accounts as
 * they stand; `sluice doctor` has nothing to say; and nothing has grown that should not (`vitals.ts`). In the first
 * half of the time one daemon of each pair is spared, in the second half the others and the ingester, so that each kind
 * has a process that lives through many faults.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { wrongCounters } from '@sluice/indexing/testing/recount.ts'
import { compare } from '@sluice/sandbox/demo/comparison.ts'
import { noProcessLeft } from '@sluice/sandbox/leftovers.ts'
import { type Network, startNetwork } from '@sluice/sandbox/network.ts'
import { Population } from '@sluice/sandbox/population.ts'
import { type Postgres, startPostgres } from '@sluice/sandbox/postgres.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { waitsForEver } from './compare.ts'
import { OWN_FAULTS } from './faults.ts'
import { Guests } from './guests.ts'
import { PROBED } from './held-memory.ts'
import { endClaims, untilNone } from './quiet.ts'
import { Locks } from './scene.ts'
import { sluice } from './sluice.ts'
import { STREAMS, System, type Upstream } from './system.ts'
import { grown, type Vitals, vitalsOf } from './vitals.ts'

export interface NetworkSoakOptions {
  seed: number
  /** Of trouble; the quiet moments between come on top. */
  minutes: number
  roundSeconds?: number
  people?: number
  say: (line: string) => void
}

export interface NetworkSoakReport {
  /** Name → how often it was injected and seen to fire. */
  fired: Map<string, number>
  /** How often guests did what. */
  guests: ReadonlyMap<string, number>
  /** Of each quiet moment, the first one before any fault. */
  vitals: Vitals[]
  /** In the end. */
  records: number
  /** None: all is well. */
  problems: string[]
}

/** Of the daemons, one after the other, and beside them those of their stores. */
const DAEMON_FAULTS = ['kill -9', 'terminate', 'kill -9', 'stop and continue'] as const
const STORE_FAULTS = [
  'redis killed',
  'redis restarted',
  'redis connections cut',
  'postgres killed',
  'postgres restarted',
  'postgres connections cut',
  'postgres read-only',
] as const

/**
 * What the simulator sets for speed is as in production here, but that repositories are listed anew every five minutes.
 * A relay of forty people may well be silent.
 */
const ENV = {
  INDEXER_HANDLES: 'true',
  INGESTER_IDLE_MS: '0',
  INGESTER_BATCH_SIZE: '500',
  INGESTER_SWEEP_INTERVAL_MS: '5m',
  INGESTER_SWEEP_GRACE_MS: '1m',
  BACKFILLER_RECLAIM_IDLE_MS: '60s',
  BACKFILLER_RETRY_MS: '30s',
  BACKFILLER_RETRY_MAX_MS: '6h',
  BACKFILLER_HOST_CONCURRENCY: '8',
  INDEXER_RECLAIM_IDLE_MS: '60s',
  INDEXER_BATCH_SIZE: '8000',
}

const ROUND_SECONDS = 170
const PACE_MS = 120
const GUEST_MS = 700
/** Longer than entries and permits of the dead are left alone, and than the waits after an outage. */
const STILL_MS = 150_000
const QUIET_MS = 400_000

/**
 * Ends when so many minutes of trouble are over, or after the first quiet moment that is not well. Leaves nothing
 * behind.
 */
export async function networkSoak(options: NetworkSoakOptions): Promise<NetworkSoakReport> {
  const begin = performance.now()
  const say = (line: string): void =>
    options.say(`${((performance.now() - begin) / 1000).toFixed(0).padStart(5)} s  ${line}`)
  const nobodyLeft = noProcessLeft('the soak')
  const report: NetworkSoakReport = { fired: new Map(), guests: new Map(), vitals: [], records: 0, problems: [] }
  try {
    await using scene = await Soak.start(options)
    say('all daemons are up')
    report.guests = scene.guests.done
    const { minutes, roundSeconds = ROUND_SECONDS } = options
    const rounds = Math.ceil((minutes * 60) / roundSeconds)
    for (let round = 0; report.problems.length === 0 && round <= rounds; round++) {
      const isFirstHalf = round <= rounds / 2
      for (const slot of scene.system.slots) slot.isSpared = slot.name.endsWith(' one') === isFirstHalf
      if (round > 0) await scene.trouble(roundSeconds, report.fired)
      report.problems.push(...(await scene.quiet(say)))
      report.vitals.push(await vitalsOf(scene.system))
      report.records = scene.population.records.size
      say(
        `round ${round}: ${report.records} records of the population; ${told(report.fired)}; ${vitalLine(report.vitals.at(-1)!)}`,
      )
    }
    report.problems.push(...grown(report.vitals[1] ?? report.vitals[0]!, report.vitals.at(-1)!))
    if (report.problems.length === 0) await scene.system.stopAll()
    report.problems.push(...scene.system.surprises)
  } catch (error) {
    report.problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  await nobodyLeft().catch((error: unknown) => report.problems.push(String(error)))
  return report
}

class Soak implements AsyncDisposable {
  readonly system: System
  readonly population: Population
  readonly guests: Guests
  readonly #network: Network
  readonly #labels: Postgres
  readonly #random: Random
  readonly #locks = new Locks()
  readonly #daemonFaults = turns(DAEMON_FAULTS)
  readonly #storeFaults = turns(STORE_FAULTS)
  readonly #stack: AsyncDisposableStack

  private constructor(
    {
      system,
      population,
      network,
      labels,
    }: { system: System; population: Population; network: Network; labels: Postgres },
    random: Random,
    stack: AsyncDisposableStack,
  ) {
    this.system = system
    this.population = population
    this.#network = network
    this.#labels = labels
    this.#random = random
    this.guests = new Guests(network, population, random)
    this.#stack = stack
  }

  static async start({ seed, minutes, people = 30 }: NetworkSoakOptions): Promise<Soak> {
    await using started = new AsyncDisposableStack()
    // The labeler's own, which no fault touches.
    const labels = started.use(await startPostgres({ fast: true }))
    const network = started.use(await startNetwork({ labelerDatabaseUrl: await labels.createDatabase(LABELER) }))
    // More than there is time for.
    const during = Math.ceil((minutes * 90_000) / PACE_MS)
    const population = await Population.create(network, { seed, people, before: people * 50, during })
    await population.populate()
    const world = await upstreamOf(network, labels)
    const system = started.use(
      await System.start({ world, env: ENV, appendfsync: 'everysec', maxmemory: '1gb', nodeFlags: PROBED }),
    )
    await system.startAll()
    return new Soak({ system, population, network, labels }, new Random(seed), started.move())
  }

  /**
   * People and guests do what they do, and faults come, for so long.
   * @throws Error when a fault does not fire, or the PDS refuses something
   */
  async trouble(seconds: number, fired: Map<string, number>): Promise<void> {
    const endMs = Date.now() + seconds * 1_000
    const faults = async (names: Iterator<keyof typeof OWN_FAULTS, never>, waitMs: number): Promise<void> => {
      while (Date.now() < endMs) {
        await delay(waitMs / 4 + this.#random.below(waitMs))
        const name = names.next().value
        await OWN_FAULTS[name]({ system: this.system, random: this.#random, locks: this.#locks })
        fired.set(name, (fired.get(name) ?? 0) + 1)
      }
    }
    const parts = [this.#life(endMs, fired), faults(this.#daemonFaults, 12_000), faults(this.#storeFaults, 30_000)]
    for (const part of await Promise.allSettled(parts)) if (part.status === 'rejected') throw part.reason
  }

  /** Nobody writes while the PDS is away. */
  async #life(endMs: number, fired: Map<string, number>): Promise<void> {
    while (Date.now() < endMs) {
      const over = new AbortController()
      const legEndMs = Math.min(endMs, Date.now() + 20_000 + this.#random.below(40_000))
      const writing = this.population.traffic({ paceMs: PACE_MS, signal: over.signal })
      try {
        while (Date.now() < legEndMs) {
          await this.guests.next()
          await delay(GUEST_MS)
        }
      } finally {
        over.abort()
        await writing
      }
      if (!this.#random.chance(0.3)) continue
      await this.#network.pds.stop()
      await delay(2_000 + this.#random.below(8_000))
      await this.#network.pds.start()
      fired.set('PDS away', (fired.get('PDS away') ?? 0) + 1)
    }
  }

  /** Waits until all has come true; what has not. */
  async quiet(say: (line: string) => void): Promise<string[]> {
    await using db = this.system.openDatabase()
    const beginMs = Date.now()
    const look = async (): Promise<string[]> => {
      // They end by themselves while others still work.
      if (Date.now() - beginMs > 20_000) await endClaims(db)
      const left = await this.system.leftovers(await upstreamOf(this.#network, this.#labels))
      if (left.length > 0) return left
      const differences = await this.#differences(db)
      return differences.length > 0 ? differences : await this.#doctor()
    }
    const isOver = (): boolean => this.system.surprises.length > 0
    return await untilNone(look, { withinMs: QUIET_MS, stillMs: STILL_MS, everyMs: () => 1_500, isOver, say })
  }

  async #differences(db: DatabasePool): Promise<string[]> {
    const { active, away, all } = this.guests
    const inhabitants = { people: [...this.population.people, ...active], labels: this.population.labels, away }
    const { differences } = await compare(this.#network, inhabitants, async <T extends object>(text: string) => {
      return (await db.query<T & Record<string, unknown>>(text)).rows
    })
    const letters = await Promise.all(STREAMS.map((stream) => this.system.client.xLen(`${stream}_dlq`)))
    const { rows } = await db.query<{ did: string; status: string | null }>(
      'select did, "upstreamStatus" as status from actor',
    )
    const held = new Map(rows.map(({ did, status }) => [did, status ?? 'active']))
    const statuses = all.flatMap(({ did, status }) => {
      const [is, should] = [held.get(did) ?? 'deleted', status ?? 'active']
      return is === should ? [] : [`actor ${did} is ${is}, and should be ${should}`]
    })
    return [
      ...letters.flatMap((n, i) => (n > 0 ? [`${n} dead letters of ${STREAMS[i]}`] : [])),
      ...differences,
      ...statuses,
      ...(await wrongCounters(db, new CollectionSet(collections))),
      ...(await waitsForEver(db)),
    ]
  }

  /** What the operator is told is wrong. That somebody died they know: it is cleared first. */
  async #doctor(): Promise<string[]> {
    const { relays, labeler, network } = await upstreamOf(this.#network, this.#labels)
    const env = {
      PLC_URL: network.plcUrl,
      ALLOW_PRIVATE_HOSTS: 'true',
      RELAY_HOSTS: relays[0]!.url,
      LABELER_HOSTS: labeler.url,
      SLUICE_DAEMONS: this.system.slots.map(({ daemon }) => `http://127.0.0.1:${daemon!.port}`).join(','),
    }
    const incidents = (await this.system.client.xRange('sluice:incidents', '-', '+')) ?? []
    const unknown = incidents.filter(({ message }) => message.kind !== 'consumer-died')
    if (unknown.length === 0 && incidents.length > 0) await sluice(this.system, ['incidents', 'clear'], env)
    const { child, exit } = await sluice(this.system, ['doctor'], env)
    return exit.code === 0 ? [] : [`sluice doctor:\n${child.log.tail()}`]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}

const LABELER = 'labeler'

/** One after the other, again and again. */
function* turns<T>(names: readonly T[]): Generator<T, never> {
  for (;;) yield* names
}

async function upstreamOf(network: Network, labels: Postgres): Promise<Upstream> {
  const [row] = await labels.query<{ seq: number }>(
    'select coalesce(max(id), 0)::int as seq from ozone.label',
    [],
    LABELER,
  )
  const seq = (await network.pds.server.ctx.sequencer.curr()) ?? 0
  const { host } = new URL(network.pds.url)
  const labeler = { url: network.labeler.url, host: new URL(network.labeler.url).host, seq: row!.seq }
  return { relays: [{ url: network.pds.url, host, seq }], labeler, network: { plcUrl: network.plcUrl } }
}

/** What was counted, in one line. */
export function told(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([name, count]) => `${name} ${count}`).join(', ') || 'nothing yet'
}

function vitalLine(vitals: Vitals): string {
  const shown = [...vitals].filter(([name]) => !name.startsWith('redis: keys'))
  return shown.map(([name, value]) => `${name} ${value.toFixed(value < 100 ? 1 : 0)}`).join(', ')
}
