/** What an operator can set. Names that other programs rely on are listed in docs/configuration.md. */
import { isIP } from 'node:net'
import { indexerCollectionsOption } from '@sluice/collections/patterns.ts'
import { defineConfig, type ConfigOf } from '@sluice/runtime/config.ts'
import { isSchemaName } from '@sluice/database/schema-name.ts'
import { identityOptions, redisOptions, runtimeOptions } from '@sluice/runtime/shared-options.ts'
import { shardOption } from '@sluice/streams/spread.ts'
import { streamsBeside } from '@sluice/streams/stream-names.ts'

export const indexerConfig = defineConfig({
  name: 'indexer',
  summary: 'applies the events of the streams to PostgreSQL',
  distinct: { keys: ['streams', 'labelStream', 'repoStream'], alsoTaken: streamsBeside },
  options: {
    ...runtimeOptions(4020),
    ...redisOptions,
    ...identityOptions,
    postgresUrl: {
      env: 'DB_POSTGRES_URL',
      aliases: ['DATABASE_URL', 'BSKY_DB_POSTGRES_URL'],
      type: 'url',
      schemes: ['postgres', 'postgresql'],
      secret: true,
      example: 'postgres://bsky:password@localhost:5432/bsky',
      help: 'The database that the AppView reads. It names one host, which has to lead to the primary. What it does not name (user, password, database) is what psql would take.',
      check: hostsProblem,
    },
    postgresSchema: {
      env: 'DB_POSTGRES_SCHEMA',
      type: 'string',
      default: 'bsky',
      help: "The schema of the AppView's tables.",
      check: (schema) => (isSchemaName(schema) ? undefined : 'is no name of letters, digits and underscores'),
    },
    poolSize: {
      env: 'DB_POOL_SIZE',
      type: 'integer',
      min: 2,
      default: 12,
      help: 'How many connections to PostgreSQL are opened at most: one for each of the INDEXER_CONCURRENCY transactions, and two or more for everything else.',
    },
    migrateAtStart: {
      env: 'INDEXER_MIGRATE',
      type: 'boolean',
      default: true,
      help: 'true: apply pending migrations at the start. false: stop if there are any, and name them.',
    },
    consumer: {
      env: 'INDEXER_CONSUMER',
      type: 'string',
      example: 'one',
      help: 'The name of this process in its consumer groups; each indexer needs its own.',
    },
    group: {
      env: 'INDEXER_GROUP',
      type: 'string',
      default: 'firehose_group',
      help: 'The consumer group on the event streams.',
    },
    labelGroup: {
      env: 'INDEXER_LABEL_GROUP',
      type: 'string',
      default: 'label_group',
      help: 'The consumer group on the label stream.',
    },
    streams: {
      env: 'INDEXER_STREAMS',
      type: 'list',
      default: ['firehose_live', 'firehose_backfill'],
      help: 'The event streams to read, the most urgent first. While entries arrive on one stream, batches of the streams after it are small.',
      check: streamsProblem,
    },
    labelStream: {
      env: 'INDEXER_LABEL_STREAM',
      type: 'string',
      default: 'label_live',
      help: 'The label stream to read.',
    },
    repoStream: {
      env: 'INDEXER_REPO_STREAM',
      type: 'string',
      default: 'repo_backfill',
      help: 'The stream in which the repositories of accounts that came back after a deletion are requested.',
    },
    shard: {
      ...shardOption,
      help: 'The shard whose streams these are; the same value as for the ingester. Deletions of accounts of other shards are left to the indexers of those shards, and the identities of such accounts are not taken from this Redis.',
    },
    concurrency: {
      env: 'INDEXER_CONCURRENCY',
      type: 'integer',
      min: 1,
      default: 10,
      help: 'How many batches of all event streams together are applied at the same time. No more are used than there are processors.',
    },
    batchEvents: {
      env: 'INDEXER_BATCH_SIZE',
      type: 'integer',
      min: 1,
      max: 20_000,
      default: 8_000,
      help: 'How many events one transaction applies at most. Batches get this large only when the indexer is behind.',
    },
    heldBytes: {
      env: 'INDEXER_MEMORY_BYTES',
      type: 'bytes',
      min: 1 << 20,
      default: 48 << 20,
      help: 'Memory for the entries of each stream that were read and are not acked yet.',
    },
    collections: {
      ...indexerCollectionsOption,
      help: 'Further collections whose records are stored, without rows in tables of their own: NSIDs, or prefixes such as com.example.*',
    },
    handles: {
      env: 'INDEXER_HANDLES',
      type: 'boolean',
      default: true,
      help: 'Whether handles are verified, beside the data path. Several indexers share the work.',
    },
    handleConcurrency: {
      env: 'INDEXER_HANDLE_CONCURRENCY',
      type: 'integer',
      min: 3,
      max: 1_000,
      default: 64,
      help: 'For how many accounts the handle is verified at the same time.',
    },
    handlePerSecond: {
      env: 'INDEXER_HANDLE_REQUESTS_PER_SECOND',
      type: 'integer',
      min: 1,
      default: 100,
      help: 'How many requests are sent each second at most to the DID directory, and as many again to DNS and the hosts of handles.',
    },
    handleRefreshMs: {
      env: 'INDEXER_HANDLE_REFRESH_MS',
      type: 'duration',
      min: 3_600_000,
      max: 365 * 24 * 3_600_000,
      default: 7 * 24 * 3_600_000,
      help: 'A handle is verified again when its last verification is this old. Identity events ask for a verification at once.',
    },
    handleNameservers: {
      env: 'INDEXER_HANDLE_NAMESERVERS',
      type: 'list',
      default: [],
      example: '1.1.1.1',
      help: "Name servers (address or address:port) to ask for handles. Default: the system's.",
      check: nameserverProblem,
    },
    allowPrivate: {
      env: 'ALLOW_PRIVATE_HOSTS',
      type: 'boolean',
      default: false,
      help: 'Allow hosts with private addresses and plain http, and ask the PDS of an account about its .test handle. For test networks only.',
    },
    reclaimIdleMs: {
      env: 'INDEXER_RECLAIM_IDLE_MS',
      type: 'duration',
      min: 1_000,
      max: 3_600_000,
      default: 60_000,
      help: 'Entries that a dead indexer left are taken over when nobody has touched them for this long.',
    },
  },
})

export type IndexerConfig = ConfigOf<typeof indexerConfig>

function streamsProblem(streams: readonly string[]): string | undefined {
  if (streams.length === 0) return 'names none'
  const twice = streams.find((name, i) => streams.indexOf(name) !== i)
  if (twice !== undefined) return `names ${twice} twice`
  const beside = streams.find((name) => streams.some((other) => streamsBeside(other).includes(name)))
  return beside === undefined ? undefined : `names ${beside}, which is in use beside another of them`
}

function nameserverProblem(servers: readonly string[]): string | undefined {
  const bad = servers.find((server) => !isNameserver(server))
  return bad === undefined ? undefined : `names ${bad}, which is no address such as 1.1.1.1, 1.1.1.1:53 or [::1]:53`
}

function isNameserver(text: string): boolean {
  const [, six, four, port = '53'] = /^(?:\[(.+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  return (
    isIP(text) !== 0 || ((isIP(six ?? '') === 6 || isIP(four ?? '') === 4) && Number(port) > 0 && Number(port) < 65_536)
  )
}

/** The driver connects to one host. It would look several up as one name, which does not exist, for ever. */
function hostsProblem(url: string): string | undefined {
  const { hostname, searchParams } = new URL(url)
  if (!(searchParams.get('host') ?? hostname).includes(',')) return undefined
  return 'names several hosts, and one is connected to: name an address that leads to the primary (docs/operations.md, "When a store fails over")'
}
