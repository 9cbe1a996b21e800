/**
 * What the command line reads from the environment: the variables of the daemons, so that it sees the system as they
 * do, and one of its own.
 *
 * The configuration literals of the daemons are the only part of `services/` that this package may import
 * (scripts/house-rules.ts).
 */
import { backfillerConfig } from '@sluice/backfiller/config.ts'
import { indexerConfig } from '@sluice/indexer/config.ts'
import { ingesterConfig } from '@sluice/ingester/config.ts'
import {
  defineConfig,
  settingsOf,
  type ConfigOf,
  type Definition,
  type Env,
  type Options,
} from '@sluice/runtime/config.ts'
import type { OptionValue } from '@sluice/runtime/config-kinds.ts'
import { FatalError } from '@sluice/runtime/errors.ts'
import { priorityStream } from '@sluice/streams/backfill-queue.ts'
import { shardOfSetting, type Shard } from '@sluice/streams/spread.ts'

export const cliConfig = defineConfig({
  name: 'sluice',
  summary: 'shows what the pipeline does and what is wrong with it, and repairs it',
  options: {
    daemons: {
      env: 'SLUICE_DAEMONS',
      type: 'list',
      default: [],
      example: 'http://ingester:4000,http://backfiller:4010,http://indexer:4020',
      help: 'Addresses of the daemons, for sluice status and sluice doctor to ask /health, /ready and /metrics. Default: this machine, at the METRICS_PORT of each role; daemons that do not answer there are left out.',
      check: (urls) => {
        const bad = urls.find((url) => !/^https?:\/\/[^/@]+\/?$/.test(url))
        return bad === undefined
          ? undefined
          : `names ${bad}, which is no address like http://indexer:4020, without a user or password`
      },
    },
  },
})

export const ROLES = [ingesterConfig, backfillerConfig, indexerConfig] as const

/** The settings that the commands need, from the environment and the defaults. */
export interface Settings {
  redisUrl: string
  /** Undefined: DB_POSTGRES_URL is not set. */
  postgresUrl: string | undefined
  schema: string
  /** The shard whose accounts this Redis, or these streams, hold. */
  shard: Shard
  plcUrl: string
  allowPrivate: boolean
  relays: readonly string[]
  labelers: readonly string[]
  streams: { live: string; repo: string; label: string; backfill: string }
  /** The streams that the indexer is configured to read. */
  indexed: readonly string[]
  indexedLabels: string
  /** The stream that the backfiller is configured to read. */
  backfilled: string
  /** The stream in which the indexer requests repositories. */
  requested: string
  groups: { events: string; labels: string; repos: string }
  /** Entries at which the producer of a stream waits. */
  highWater: ReadonlyMap<string, number>
  /** Percent of maxmemory at which the ingester waits, and the lower one at which the backfiller waits. */
  memoryPercent: { ingester: number; backfiller: number }
  /** Younger revisions may still come by the live stream. */
  sweepGraceMs: number
  collections: readonly string[]
  /** The collections that the ingester lets through; empty: those that the indexer indexes. */
  ingested: readonly string[]
  /** The collections that the backfiller appends; empty: those that the indexer indexes. */
  exported: readonly string[]
  daemons: { urls: readonly string[]; named: boolean }
}

/**
 * @throws FatalError that names a variable whose value cannot be read. A variable that only a daemon requires may be
 * absent
 */
export function readSettings(env: Env): Settings {
  const ingester = valuesOf(ingesterConfig, env)
  const backfiller = valuesOf(backfillerConfig, env)
  const indexer = valuesOf(indexerConfig, env)
  const { daemons = [] } = valuesOf(cliConfig, env)
  const live = ingester.firehoseStream!
  const backfill = backfiller.firehoseStream!
  return {
    redisUrl: indexer.redisUrl!,
    postgresUrl: indexer.postgresUrl,
    schema: indexer.postgresSchema!,
    shard: shardOfSetting(ingester.shard),
    plcUrl: ingester.plcUrl!,
    allowPrivate: ingester.allowPrivate!,
    relays: ingester.relayHosts!,
    labelers: ingester.labelerHosts!,
    streams: { live, repo: ingester.repoStream!, label: ingester.labelStream!, backfill },
    indexed: indexer.streams!,
    indexedLabels: indexer.labelStream!,
    backfilled: backfiller.backfillStream!,
    requested: indexer.repoStream!,
    groups: { events: indexer.group!, labels: indexer.labelGroup!, repos: backfiller.group! },
    highWater: new Map([
      [live, ingester.firehoseHighWater!],
      [ingester.repoStream!, ingester.repoHighWater!],
      [ingester.labelStream!, ingester.labelHighWater!],
      [backfill, backfiller.highWaterMark!],
    ]),
    memoryPercent: { ingester: ingester.redisMemoryPercent!, backfiller: backfiller.redisMemoryPercent! },
    sweepGraceMs: ingester.sweepGraceMs!,
    collections: indexer.collections!,
    ingested: ingester.collections!,
    exported: backfiller.collections!,
    daemons: daemons.length > 0 ? { urls: daemons, named: true } : { urls: localDaemons(env), named: false },
  }
}

/** A stream, the group that reads it, and the role of that group's consumers. */
export interface Reading {
  stream: string
  group: string
  role: 'indexer' | 'backfiller'
}

/** Which group reads which stream, in the order of the data path. */
export function readingsOf({ indexed, indexedLabels, backfilled, groups }: Settings): Reading[] {
  return [
    ...indexed.map((stream): Reading => ({ stream, group: groups.events, role: 'indexer' })),
    { stream: indexedLabels, group: groups.labels, role: 'indexer' },
    { stream: backfilled, group: groups.repos, role: 'backfiller' },
    { stream: priorityStream(backfilled), group: groups.repos, role: 'backfiller' },
  ]
}

function localDaemons(env: Env): string[] {
  const ports = ROLES.map((role) => valuesOf<Options>(role, env).metricsPort as number).filter((port) => port !== 0)
  return [...new Set(ports)].map((port) => `http://127.0.0.1:${port}`)
}

/** Values that are set, and defaults. A value that a daemon requires, and that is not set, is absent. */
function valuesOf<O extends Options>(definition: Definition<O>, env: Env): Partial<ConfigOf<Definition<O>>> {
  const settings = settingsOf(definition, env)
  const wrong = settings.find(({ problem, source }) => problem !== undefined && source !== 'not set')
  if (wrong) throw new FatalError(wrong.problem)
  const values = settings.map(({ key, value }): [string, OptionValue | undefined] => [key, value])
  return Object.fromEntries(values) as Partial<ConfigOf<Definition<O>>>
}
