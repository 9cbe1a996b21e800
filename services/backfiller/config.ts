/** What an operator can set. Names that others rely on are in docs/configuration.md. */
import { patternProblem } from '@sluice/collections/patterns.ts'
import { defineConfig, type ConfigOf } from '@sluice/runtime/config.ts'
import { identityOptions, redisOptions, runtimeOptions } from '@sluice/runtime/shared-options.ts'
import { shardOption } from '@sluice/streams/spread.ts'
import { streamsBeside } from '@sluice/streams/stream-names.ts'
import { parseHostRules } from './host-rules.ts'

export const backfillerConfig = defineConfig({
  name: 'backfiller',
  summary: 'fetches whole repositories, verifies them and appends their records',
  distinct: { keys: ['backfillStream', 'firehoseStream'], alsoTaken: streamsBeside },
  options: {
    ...runtimeOptions(4010),
    ...redisOptions,
    ...identityOptions,
    consumer: {
      env: 'BACKFILLER_CONSUMER',
      type: 'string',
      example: 'one',
      help: 'Name of this process within its group; unique, and the same after a restart.',
    },
    group: {
      env: 'BACKFILLER_GROUP',
      type: 'string',
      default: 'repo_backfill_group',
      help: 'The consumer group that all backfillers share.',
    },
    backfillStream: {
      env: 'BACKFILLER_BACKFILL_STREAM',
      type: 'string',
      default: 'repo_backfill',
      help: 'Where the repositories to fetch are listed; <this>_priority is read first.',
    },
    firehoseStream: {
      env: 'BACKFILLER_FIREHOSE_STREAM',
      type: 'string',
      default: 'firehose_backfill',
      help: 'Where the records go.',
    },
    highWaterMark: {
      env: 'BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK',
      type: 'integer',
      min: 1,
      default: 100_000,
      help: 'Entries in the firehose stream at which fetching pauses until the indexer has caught up.',
    },
    redisMemoryPercent: {
      env: 'BACKFILLER_REDIS_MEMORY_PERCENT',
      type: 'integer',
      min: 1,
      max: 100,
      default: 60,
      help: 'Share of Redis maxmemory at which fetching pauses; below the mark of the ingester (80), so that live events always find room.',
    },
    concurrency: {
      env: 'BACKFILLER_CONCURRENCY',
      type: 'integer',
      min: 1,
      max: 10_000,
      default: 256,
      help: 'Repositories that are fetched at the same time.',
    },
    memoryBytes: {
      env: 'BACKFILLER_MEMORY_BYTES',
      type: 'bytes',
      min: 64 * 1024 ** 2,
      default: 256 * 1024 ** 2,
      help: 'Memory for repositories under way, in all; what does not fit goes to files.',
    },
    spoolDir: {
      env: 'BACKFILLER_SPOOL_DIR',
      type: 'string',
      default: undefined,
      example: '/var/tmp',
      help: 'Folder for what exceeds the memory; default: the system folder for temporary files.',
    },
    spoolBytes: {
      env: 'BACKFILLER_SPOOL_BYTES',
      type: 'bytes',
      min: 64 * 1024 ** 2,
      default: 16 * 1024 ** 3,
      help: 'Disk for the files of repositories under way, in all; what finds no room is tried again later, and no repository may be larger than half of it.',
    },
    repoBytes: {
      env: 'BACKFILLER_REPO_BYTES',
      type: 'bytes',
      min: 1024 ** 2,
      default: 2 * 1024 ** 3,
      help: 'The largest repository that is accepted.',
    },
    collections: {
      env: 'BACKFILLER_COLLECTIONS',
      type: 'list',
      default: [],
      example: 'app.bsky.*,com.example.note',
      help: 'Collections whose records are carried; default: those that the indexer has a plugin for. Name what INDEXER_COLLECTIONS adds.',
      check: patternProblem,
    },
    fetchFrom: {
      env: 'BACKFILLER_FETCH_FROM',
      type: 'enum',
      values: ['pds', 'listed'],
      default: 'pds',
      help: 'Whom to ask for a repository: the PDS that the account names, or the host that listed it (a mirror or archive), redirects followed.',
    },
    exports: {
      env: 'BACKFILLER_EXPORTS',
      type: 'enum',
      values: ['auto', 'resync'],
      default: 'auto',
      help: 'resync: every export also removes what the repository no longer has. Set it after Redis lost its state while the index kept its rows.',
    },
    shard: {
      ...shardOption,
      help: 'The shard whose repositories these are, as the ingester has it: each shard takes its part of what a host allows.',
    },
    hostConcurrency: {
      env: 'BACKFILLER_HOST_CONCURRENCY',
      type: 'integer',
      min: 1,
      max: 1_000,
      default: 8,
      help: 'Repositories fetched from one host at the same time, by all backfillers together.',
    },
    hostRequests: {
      env: 'BACKFILLER_HOST_REQUESTS',
      type: 'integer',
      min: 10,
      default: 2_700,
      help: 'Requests to one host in 300 seconds, by all backfillers together; hosts refuse at 3,000.',
    },
    hostRules: {
      env: 'BACKFILLER_HOST_RULES',
      type: 'list',
      default: ['*.host.bsky.network=32'],
      help: 'Hosts with limits of their own: <host or *.domain>=<concurrency>[/<requests in 300 s>]; the first that fits counts.',
      check: (rules) => parseHostRules(rules).problem,
    },
    skipHosts: {
      env: 'BACKFILLER_SKIP_HOSTS',
      type: 'list',
      default: [],
      example: 'gone.example.com',
      help: 'Hosts that are not asked: what is queued for them is dropped, and counted.',
      check: hostNamesProblem,
    },
    headersMs: {
      env: 'BACKFILLER_HEADERS_MS',
      type: 'duration',
      min: 1_000,
      default: 30_000,
      help: 'How long a host may take to begin an answer.',
    },
    idleMs: {
      env: 'BACKFILLER_IDLE_MS',
      type: 'duration',
      min: 1_000,
      default: 30_000,
      help: 'How long a host may be silent within a repository.',
    },
    bytesPerSecond: {
      env: 'BACKFILLER_BYTES_PER_SECOND',
      type: 'bytes',
      default: 2_000,
      help: 'The least speed of a host, over windows of BACKFILLER_IDLE_MS.',
    },
    fetchMs: {
      env: 'BACKFILLER_FETCH_MS',
      type: 'duration',
      min: 1_000,
      default: 300_000,
      help: 'How long the first try for a repository may take; each further try may take twice as long, up to two hours.',
    },
    retryMs: {
      env: 'BACKFILLER_RETRY_MS',
      type: 'duration',
      min: 1,
      default: 30_000,
      help: 'The wait after the first failure of a repository; it doubles with each, up to BACKFILLER_RETRY_MAX_MS, and other kinds of failure wait multiples of it.',
    },
    retryMaxMs: {
      env: 'BACKFILLER_RETRY_MAX_MS',
      type: 'duration',
      min: 1,
      default: 6 * 3_600_000,
      help: 'The longest wait between two tries.',
    },
    waitingMax: {
      env: 'BACKFILLER_WAITING_MAX',
      type: 'integer',
      min: 1,
      default: 1_000_000,
      help: 'Entries that may wait in Redis for a busy host, outside of the stream; beyond it the stream is read no faster than hosts allow.',
    },
    reclaimIdleMs: {
      env: 'BACKFILLER_RECLAIM_IDLE_MS',
      type: 'duration',
      min: 1_000,
      default: 60_000,
      help: 'What a dead backfiller left is taken over when nobody has touched it for so long.',
    },
    allowPrivate: {
      env: 'ALLOW_PRIVATE_HOSTS',
      type: 'boolean',
      default: false,
      help: 'Lets hosts have private addresses and plain http. For test networks only: anybody can name a host.',
    },
  },
})

export type BackfillerConfig = ConfigOf<typeof backfillerConfig>

/** As hosts are told apart: in lower case, with a port other than the usual one, without a scheme. Any other name would have no effect. */
function hostNamesProblem(hosts: readonly string[]): string | undefined {
  const bad = hosts.find((host) => !/^[a-z0-9.-]+(:\d+)?$/.test(host))
  return bad === undefined ? undefined : `names ${bad}, which is no host such as gone.example.com`
}
