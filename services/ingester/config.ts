/** What an operator can set. Names that others rely on are in docs/configuration.md; docs/ingester.md says when to change which. */
import { isAtprotoDid } from '@sluice/atproto/syntax.ts'
import { patternProblem } from '@sluice/collections/patterns.ts'
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
      help: 'What this process does; each part may run in a process of its own, and only once for each upstream.',
    },
    shard: {
      ...shardOption,
      help: 'Bring only the accounts of one shard, e.g. 0/2: the first of two. Each shard has a Redis, or streams, of its own. Default: all accounts.',
    },
    relayHosts: {
      env: 'RELAY_HOSTS',
      aliases: ['INGESTER_HOSTS', 'INGESTER_RELAY_HOSTS'],
      type: 'list',
      default: ['https://relay1.us-east.bsky.network'],
      help: 'Relays, or single PDSes, whose firehose is read and whose repositories are listed.',
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
      help: 'Where live events go.',
    },
    repoStream: {
      env: 'INGESTER_REPO_STREAM',
      type: 'string',
      default: 'repo_backfill',
      help: 'Where repositories that somebody should fetch go.',
    },
    labelStream: { env: 'INGESTER_LABEL_STREAM', type: 'string', default: 'label_live', help: 'Where labels go.' },
    firehoseHighWater: highWater('INGESTER_FIREHOSE_STREAM_HIGH_WATER_MARK', 'the firehose is not read'),
    repoHighWater: highWater('INGESTER_REPO_STREAM_HIGH_WATER_MARK', 'no more repositories are listed'),
    labelHighWater: highWater('INGESTER_LABEL_STREAM_HIGH_WATER_MARK', 'labels are not read'),
    redisMemoryPercent: {
      env: 'INGESTER_REDIS_MEMORY_PERCENT',
      type: 'integer',
      min: 1,
      max: 100,
      default: 80,
      help: 'Share of Redis maxmemory at which reading pauses; at 100 Redis would refuse the acks too.',
    },
    redisStrict: {
      env: 'REDIS_STRICT',
      type: 'boolean',
      default: false,
      help: 'Refuse to start on a Redis that can lose data as it is set up (eviction, no AOF); without it that is only told.',
    },
    batchEvents: {
      env: 'INGESTER_BATCH_SIZE',
      type: 'integer',
      min: 1,
      max: 5_000,
      default: 500,
      help: 'Events in one append, at most. It is reached only when there is much to do.',
    },
    batchMs: {
      env: 'INGESTER_BATCH_TIMEOUT_MS',
      type: 'duration',
      default: 1_000,
      help: 'How long an event may wait for its batch to fill while more are under way; nothing waits when all is quiet.',
    },
    memoryBytes: {
      env: 'INGESTER_MEMORY_BYTES',
      type: 'bytes',
      min: 1024 ** 2,
      default: 64 * 1024 ** 2,
      help: 'Frames under way between socket and Redis, at most; beyond it the socket is not read.',
    },
    verify: {
      env: 'INGESTER_VERIFY',
      type: 'enum',
      values: ['full', 'proof', 'off'],
      default: 'full',
      help: 'full: signature, tree and chain of every commit; proof: all but the signature; off: block hashes and chain only.',
    },
    verifyThreads: {
      env: 'INGESTER_VERIFY_THREADS',
      type: 'integer',
      min: 0,
      max: 64,
      default: undefined,
      example: '2',
      help: 'Threads that verify, beside the main one; 0: none. Default: one less than the processors, up to 4.',
    },
    collections: {
      env: 'INGESTER_COLLECTIONS',
      type: 'list',
      default: [],
      example: 'app.bsky.*,com.example.note',
      help: 'Collections that are let through: NSIDs, or prefixes like com.example.*; default: those that the indexer indexes.',
      check: patternProblem,
    },
    indexerCollections: {
      env: 'INDEXER_COLLECTIONS',
      type: 'list',
      default: [],
      example: 'com.example.*',
      help: 'What the indexer stores beyond its own list; let through too, unless INGESTER_COLLECTIONS names what is.',
      check: patternProblem,
    },
    initialCursor: {
      env: 'INGESTER_INITIAL_CURSOR',
      type: 'integer',
      min: 0,
      default: undefined,
      example: '0',
      help: 'Where to begin at a relay that has no cursor yet; 0: the oldest that it has. Default: now.',
    },
    futureCursorReset: {
      env: 'INGESTER_FUTURE_CURSOR_RESET',
      type: 'boolean',
      default: false,
      help: 'When a relay says that our cursor lies ahead of it (it was set up anew), begin at its oldest event instead of waiting for you.',
    },
    idleMs: {
      env: 'INGESTER_IDLE_MS',
      type: 'duration',
      default: 60_000,
      help: 'A relay that sends nothing for so long is connected anew; 0 for a host that may well be silent.',
    },
    pauseMs: {
      env: 'INGESTER_PAUSE_MS',
      type: 'duration',
      min: 100,
      default: 30_000,
      help: 'When reading has to pause for longer, the connection is closed, and resumed from the cursor.',
    },
    resyncsPerSecond: {
      env: 'INGESTER_RESYNCS_PER_SECOND',
      type: 'integer',
      min: 0,
      default: 200,
      help: 'Repositories that the live stream may ask to be fetched anew, each second; others wait for their next commit or the sweep.',
    },
    repoSource: {
      env: 'INGESTER_REPO_SOURCE',
      type: 'enum',
      values: ['relay', 'hosts'],
      default: 'relay',
      help: 'Who lists the repositories: the relay, or each host that the relay knows, which is slower and more complete.',
    },
    sweepIntervalMs: {
      env: 'INGESTER_SWEEP_INTERVAL_MS',
      type: 'duration',
      default: 24 * 3_600_000,
      help: 'How often the repositories are listed again, to find those that are behind or missing; 0: only on demand.',
    },
    sweepGraceMs: {
      env: 'INGESTER_SWEEP_GRACE_MS',
      type: 'duration',
      default: 15 * 60_000,
      help: 'A revision younger than this is not missing yet: the live stream may still bring it.',
    },
    skipHosts: {
      env: 'INGESTER_SKIP_HOSTS',
      type: 'list',
      default: [],
      example: 'gone.example.com',
      help: 'Hosts whose repositories are not listed (with INGESTER_REPO_SOURCE=hosts).',
      check: hostNamesProblem,
    },
    skipDids: {
      env: 'INGESTER_SKIP_DIDS',
      type: 'list',
      default: [],
      example: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa',
      help: 'Accounts that are left out: nothing of them is appended or listed.',
      check: didsProblem,
    },
    labelerDiscovery: {
      env: 'INGESTER_LABELER_DISCOVERY',
      type: 'boolean',
      default: false,
      help: 'Read the labels of every labeler that declares itself in a repository, too.',
    },
    labelersMax: {
      env: 'INGESTER_LABELERS_MAX',
      type: 'integer',
      min: 1,
      default: 500,
      help: 'Labelers that are followed because they declared themselves, at most.',
    },
    allowPrivate: {
      env: 'ALLOW_PRIVATE_HOSTS',
      type: 'boolean',
      default: false,
      help: 'Lets hosts have private addresses and plain http. For test networks only: anybody can name a host.',
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
    help: `Entries in the stream at which ${what} until they are fewer.`,
  } as const
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
