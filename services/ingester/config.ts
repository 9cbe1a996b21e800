/**
 * The settings of the ingester. docs/configuration.md says on which of their names others rely, docs/ingester.md when
 * to change which.
 */
import { isAtprotoDid } from '@sluice/atproto/syntax.ts'
import { indexerCollectionsOption, patternProblem } from '@sluice/collections/patterns.ts'
import { defineConfig, type ConfigOf } from '@sluice/runtime/config.ts'
import { hostNamesProblem, identityOptions, redisOptions, runtimeOptions } from '@sluice/runtime/shared-options.ts'
import { shardOption } from '@sluice/streams/spread.ts'
import { streamsBeside } from '@sluice/streams/stream-names.ts'
import { parseUpstream } from './upstream.ts'

export const ingesterConfig = defineConfig({
  name: 'ingester',
  summary: 'brings firehose, repositories and labels to Redis, verified',
  distinct: { keys: ['firehoseStream', 'repoStream', 'labelStream'], alsoTaken: streamsBeside },
  options: {
    ...runtimeOptions(4000),
    ...redisOptions,
    ...identityOptions,
    mode: {
      env: 'INGESTER_MODE',
      type: 'enum',
      values: ['all', 'firehose', 'backfill', 'labeler'],
      default: 'all',
      help: 'Which parts this process runs. Each part may have a process of its own, but no two processes may run a part for the same upstream.',
    },
    shard: {
      ...shardOption,
      help: 'Take only the accounts of one shard; 0/2 is the first of two shards. Each shard has its own Redis, or its own streams. Default: all accounts.',
    },
    relayHosts: {
      env: 'RELAY_HOSTS',
      aliases: ['INGESTER_HOSTS', 'INGESTER_RELAY_HOSTS'],
      type: 'list',
      default: ['https://relay1.us-east.bsky.network'],
      help: 'Relays, or single PDSes: their firehose is read, and their repositories are listed.',
      check: (hosts) => (hosts.length === 0 ? 'names none' : upstreamProblem(hosts)),
    },
    labelerHosts: {
      env: 'LABELER_HOSTS',
      aliases: ['INGESTER_LABELER_HOSTS'],
      type: 'list',
      default: [],
      example: 'https://mod.bsky.app',
      help: 'Labelers whose labels are read.',
      check: upstreamProblem,
    },
    firehoseStream: {
      env: 'INGESTER_FIREHOSE_STREAM',
      type: 'string',
      default: 'firehose_live',
      help: 'The stream that gets the live events.',
    },
    repoStream: {
      env: 'INGESTER_REPO_STREAM',
      type: 'string',
      default: 'repo_backfill',
      help: 'The stream that gets the repositories to fetch.',
    },
    labelStream: {
      env: 'INGESTER_LABEL_STREAM',
      type: 'string',
      default: 'label_live',
      help: 'The stream that gets the labels.',
    },
    firehoseHighWater: highWater('INGESTER_FIREHOSE_STREAM_HIGH_WATER_MARK', 'the firehose is not read'),
    repoHighWater: highWater('INGESTER_REPO_STREAM_HIGH_WATER_MARK', 'no more repositories are listed'),
    labelHighWater: highWater('INGESTER_LABEL_STREAM_HIGH_WATER_MARK', 'labels are not read'),
    redisMemoryPercent: {
      env: 'INGESTER_REDIS_MEMORY_PERCENT',
      type: 'integer',
      min: 1,
      max: 100,
      default: 80,
      help: 'When Redis uses this percentage of its maxmemory, reading pauses until it uses less. Keep it well below 100: the streams are not the only thing in Redis.',
    },
    redisStrict: {
      env: 'REDIS_STRICT',
      type: 'boolean',
      default: false,
      help: 'true: do not start on a Redis whose settings can lose data (eviction, no AOF). false: start, and report it.',
    },
    batchEvents: {
      env: 'INGESTER_BATCH_SIZE',
      type: 'integer',
      min: 1,
      max: 5_000,
      default: 500,
      help: 'How many events one append holds at most. Appends get this large only under load.',
    },
    batchMs: {
      env: 'INGESTER_BATCH_TIMEOUT_MS',
      type: 'duration',
      max: 60_000,
      default: 1_000,
      help: 'How long an event may wait for its batch to fill, while more events are under way. When no others are, nothing waits.',
    },
    memoryBytes: {
      env: 'INGESTER_MEMORY_BYTES',
      type: 'bytes',
      min: 1024 ** 2,
      default: 64 * 1024 ** 2,
      help: 'Memory for frames on their way from the socket to Redis. While they take more, the socket is not read.',
    },
    verify: {
      env: 'INGESTER_VERIFY',
      type: 'enum',
      values: ['full', 'proof', 'off'],
      default: 'full',
      help: 'What is checked of each commit. full: signature, tree and chain; proof: the same without the signature; off: block hashes and chain only.',
    },
    verifyThreads: {
      env: 'INGESTER_VERIFY_THREADS',
      type: 'integer',
      min: 0,
      max: 64,
      default: undefined,
      example: '2',
      help: 'How many threads verify, beside the main one. 0: none. Default: one less than there are processors, up to 4.',
    },
    collections: {
      env: 'INGESTER_COLLECTIONS',
      type: 'list',
      default: [],
      example: 'app.bsky.*,com.example.note',
      help: 'Collections whose records are let through: NSIDs, or prefixes such as com.example.*. Default: those that the indexer indexes.',
      check: patternProblem,
    },
    indexerCollections: {
      ...indexerCollectionsOption,
      example: 'com.example.*',
      help: 'Collections that the indexer stores beyond its own list. They are let through too, unless INGESTER_COLLECTIONS is set.',
    },
    initialCursor: {
      env: 'INGESTER_INITIAL_CURSOR',
      type: 'integer',
      min: 0,
      default: undefined,
      example: '0',
      help: 'Where to begin at a relay for which there is no cursor yet. 0: at the oldest event that it has. Default: now.',
    },
    futureCursorReset: {
      env: 'INGESTER_FUTURE_CURSOR_RESET',
      type: 'boolean',
      default: false,
      help: 'What to do when a relay says that our cursor lies ahead of it, because it was set up anew. true: begin at its oldest event. false: wait for an operator.',
    },
    idleMs: {
      env: 'INGESTER_IDLE_MS',
      type: 'duration',
      max: 24 * 3_600_000,
      default: 60_000,
      check: offOrAtLeast(1_000, '1s'),
      help: 'A relay that has sent nothing for this long, 1s or more, is reconnected. 0: never; for a host that may well be silent.',
    },
    pauseMs: {
      env: 'INGESTER_PAUSE_MS',
      type: 'duration',
      min: 100,
      max: 3_600_000,
      default: 30_000,
      help: 'When reading has to pause for longer than this, the connection is closed. It is opened again later, from the cursor.',
    },
    resyncsPerSecond: {
      env: 'INGESTER_RESYNCS_PER_SECOND',
      type: 'integer',
      min: 0,
      default: 200,
      help: 'How many repositories the live stream requests each second at most, to be fetched anew. Others wait for their next commit, or for the sweep.',
    },
    repoSource: {
      env: 'INGESTER_REPO_SOURCE',
      type: 'enum',
      values: ['relay', 'hosts'],
      default: 'relay',
      help: 'Who lists the repositories. relay: the relay. hosts: each host that the relay knows; this is slower, but more complete.',
    },
    sweepIntervalMs: {
      env: 'INGESTER_SWEEP_INTERVAL_MS',
      type: 'duration',
      max: 30 * 24 * 3_600_000,
      default: 24 * 3_600_000,
      check: offOrAtLeast(5 * 60_000, '5m'),
      help: 'How often all repositories are listed again, to find those that are behind or missing; 5m or more. 0: only by sluice sweep.',
    },
    sweepGraceMs: {
      env: 'INGESTER_SWEEP_GRACE_MS',
      type: 'duration',
      max: 24 * 3_600_000,
      default: 15 * 60_000,
      help: 'A listed revision that is younger than this does not count as missing: the live stream may still bring it.',
    },
    skipHosts: {
      env: 'INGESTER_SKIP_HOSTS',
      type: 'list',
      default: [],
      example: 'gone.example.com',
      help: 'Hosts whose repositories are not listed. Used only with INGESTER_REPO_SOURCE=hosts.',
      check: hostNamesProblem,
    },
    skipDids: {
      env: 'INGESTER_SKIP_DIDS',
      type: 'list',
      default: [],
      example: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa',
      help: 'Accounts that are left out: nothing of theirs is appended or listed.',
      check: didsProblem,
    },
    labelerDiscovery: {
      env: 'INGESTER_LABELER_DISCOVERY',
      type: 'boolean',
      default: false,
      help: 'Also read the labels of every labeler that declares itself in a repository.',
    },
    labelersMax: {
      env: 'INGESTER_LABELERS_MAX',
      type: 'integer',
      min: 1,
      default: 500,
      help: 'How many labelers are followed at most because they declared themselves.',
    },
    allowPrivate: {
      env: 'ALLOW_PRIVATE_HOSTS',
      type: 'boolean',
      default: false,
      help: 'Allow hosts with private addresses and plain http. For test networks only, since strangers can name any host.',
    },
  },
})

export type IngesterConfig = ConfigOf<typeof ingesterConfig>

function highWater<const Env extends string>(env: Env, what: string) {
  return {
    env,
    aliases: ['INGESTER_HIGH_WATER_MARK'],
    type: 'integer',
    min: 1,
    default: 100_000,
    help: `When the stream holds this many entries, ${what} until there are fewer.`,
  } as const
}

/** 0 turns such a setting off. Any other value below `leastMs` was most likely meant in another unit. */
function offOrAtLeast(leastMs: number, text: string) {
  return (ms: number): string | undefined =>
    ms === 0 || ms >= leastMs ? undefined : `is neither 0 nor at least ${text}`
}

function upstreamProblem(hosts: readonly string[]): string | undefined {
  const bad = hosts.find((host) => parseUpstream(host) === undefined)
  if (bad !== undefined) return `names ${bad}, which is no host (wss://, https://, ws:// or http://, and no path)`
  const names = hosts.map((host) => parseUpstream(host)!.host)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  return twice === undefined ? undefined : `names ${twice} twice`
}

function didsProblem(dids: readonly string[]): string | undefined {
  const bad = dids.find((did) => !isAtprotoDid(did))
  return bad === undefined ? undefined : `names ${bad}, which is no DID`
}
