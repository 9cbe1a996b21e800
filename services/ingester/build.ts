/** Assembles the ingester: one connection to Redis, and the services that INGESTER_MODE selects. */
import { availableParallelism } from 'node:os'
import type { CachedResolution } from '@sluice/atproto/identity-cache.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { wantedCollections } from '@sluice/collections/collections.ts'
import { backfillEventCodec, labelEventCodec, type EntryEncoder } from '@sluice/events/codec.ts'
import { logRetry } from '@sluice/runtime/log.ts'
import type { RoleContext } from '@sluice/runtime/main.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { ingesterClientName } from '@sluice/streams/client-names.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { RedisIdentityCache } from '@sluice/streams/identity-cache.ts'
import { countIncidents, recordIncident, type CountIncident } from '@sluice/streams/incidents.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { shardOfSetting, type Shard } from '@sluice/streams/spread.ts'
import { AccountCheck } from './account-check.ts'
import type { IngesterConfig } from './config.ts'
import { Firehose } from './firehose.ts'
import { VerifierPool } from './verifier-pool.ts'
import { Verifier } from './verifier.ts'
import { Labeler, type LabelerOptions } from './labeler.ts'
import { Labels } from './labels.ts'
import { discoverLabelers, type Found } from './labeler-discovery.ts'
import { liveLagMs } from './live-lag.ts'
import {
  accountMetrics,
  backpressureMetrics,
  DISCOVERED,
  firehoseMetrics,
  labelMetrics,
  labelObserver,
  repoMetrics,
  sampleMetrics,
  type FirehoseMetrics,
  type LabelMetrics,
} from './metrics.ts'
import type { Verifying } from './pipeline.ts'
import { checkRedis } from './redis-check.ts'
import { RefusalSamples, type SampleOutcome } from './refusal-samples.ts'
import { Refusals } from './refusals.ts'
import type { SourceIncident } from './relay.ts'
import { Repos } from './repos.ts'
import { claimShard } from './shard-claim.ts'
import { SigningKeys } from './signing-keys.ts'
import { demandSweep } from './sweep-demand.ts'
import { parseUpstream, type Upstream } from './upstream.ts'

type Context = RoleContext<IngesterConfig>

/**
 * Returns when Redis can be reached and holds no other shard.
 * @throws FatalError; AbortError on the signal
 */
export async function buildIngester(context: Context): Promise<Service[]> {
  const redis = await connect(context)
  const countIncident = countIncidents(context.metrics)
  const { config, log, signal } = context
  await checkRedis(redis, { isStrict: config.redisStrict, log, countIncident }, signal)
  if (context.config.mode !== 'labeler') {
    const { firehoseStream, repoStream } = context.config
    const streams = [firehoseStream, repoStream]
    await claimShard({ redis, streams, shard: shardOfSetting(context.config.shard), log: context.log }, context.signal)
  }
  const parts = new Parts(context, redis, countIncident)
  switch (context.config.mode) {
    case 'all':
      return [parts.firehose(), parts.repos(), parts.accounts, parts.labels()]
    case 'firehose':
      return [parts.firehose(), parts.accounts]
    case 'backfill':
      return [parts.repos(), parts.accounts]
    case 'labeler':
      return [parts.labels()]
  }
}

async function connect({ config, log, readiness, resources, signal }: Context): Promise<Redis> {
  const redis = await connectRedis({
    url: config.redisUrl,
    name: ingesterClientName(config.mode, shardOfSetting(config.shard)),
    signal,
    onState(error) {
      if (!error) return readiness.clear('redis')
      readiness.block('redis', error.message)
      log.warn({ error: error.message }, 'redis: connection lost or refused, trying again')
    },
  })
  resources.defer(() => redis.destroy())
  return redis
}

/** The events of the firehose are encoded where frames are verified, so they come here as JSON. */
const JSON_EVENTS: EntryEncoder<string> = { encode: (event) => ({ event }) }

class Parts {
  readonly #context: Context
  readonly #redis: Redis
  readonly #relays: readonly Upstream[]
  readonly #skipDids: ReadonlySet<string>
  readonly #shard: Shard
  readonly #xrpc: XrpcClient
  readonly #keys: SigningKeys
  readonly #events: Producer<string>
  readonly #marks = new Map<string, HighWater>()
  readonly #onSample: (outcome: SampleOutcome) => void
  readonly accounts: AccountCheck
  readonly #countIncident: CountIncident
  #identityWaits: FirehoseMetrics['identityWaits'] | undefined

  constructor(context: Context, redis: Redis, countIncident: CountIncident) {
    const { config, log, metrics, resources } = context
    this.#context = context
    this.#redis = redis
    this.#countIncident = countIncident
    this.#relays = config.relayHosts.map((host) => parseUpstream(host)!)
    this.#skipDids = new Set(config.skipDids)
    this.#shard = shardOfSetting(config.shard)
    // Hosts that the operator names may have any address; hosts that strangers name only public ones.
    const allowOrigins = [config.plcUrl, ...this.#relays.map(({ webUrl }) => webUrl)]
    const http = new HttpClient({ allowPrivate: config.allowPrivate, allowOrigins, connectionsPerHost: 64 })
    resources.defer(() => http.close())
    this.#xrpc = new XrpcClient(http)
    this.#keys = new SigningKeys({
      plcUrl: config.plcUrl,
      http,
      cache: new RedisIdentityCache<CachedResolution>({ redis }),
      onWait: (error) => {
        this.#identityWaits?.inc(1)
        log.debug({ error: error.message }, 'an identity could not be resolved, tried again')
      },
    })
    this.#events = this.#producer(config.firehoseStream, JSON_EVENTS, config.firehoseHighWater)
    this.accounts = new AccountCheck({
      redis,
      producer: this.#events,
      repoStream: config.repoStream,
      xrpc: this.#xrpc,
      keys: this.#keys,
      log,
      onAnswer: accountMetrics(metrics),
    })
    this.#onSample = sampleMetrics(metrics)
    const streams = [config.firehoseStream, config.repoStream, config.labelStream]
    backpressureMetrics(metrics, streams, (stream) => this.#marks.get(stream)?.held?.by)
  }

  firehose(): Firehose {
    const { config, log, readiness } = this.#context
    const metrics = firehoseMetrics(
      this.#context.metrics,
      this.#relays.map(({ host }) => host),
      {
        underWayBytes: () => firehose.underWayBytes,
        eventTimeMs: (host) => firehose.eventTimeMs(host),
      },
    )
    this.#identityWaits = metrics.identityWaits
    const { initialCursor, futureCursorReset, idleMs, pauseMs } = config
    const firehose = new Firehose({
      redis: this.#redis,
      producer: this.#events,
      keys: this.#keys,
      verifying: this.#verifying(metrics),
      log,
      readiness,
      metrics,
      samples: this.#samples(config.firehoseStream),
      upstreams: this.#relays,
      needsKeys: config.verify === 'full',
      memoryBytes: config.memoryBytes,
      batchEvents: config.batchEvents,
      batchMs: config.batchMs,
      repoStream: config.repoStream,
      repoEntriesMax: config.repoHighWater,
      resyncsPerSecond: config.resyncsPerSecond,
      relay: { initialCursor, futureCursorReset, idleMs, pauseMs, skipDids: this.#skipDids, shard: this.#shard },
      recordIncident: (incident) => this.#incident(incident),
      onSuspects: (dids) => this.accounts.suspect(dids),
    })
    return firehose
  }

  repos(): Repos {
    const { config, log, metrics } = this.#context
    return new Repos({
      redis: this.#redis,
      xrpc: this.#xrpc,
      producer: this.#producer(config.repoStream, backfillEventCodec, config.repoHighWater),
      log,
      upstreams: this.#relays,
      source: config.repoSource,
      sweepIntervalMs: config.sweepIntervalMs,
      sweepGraceMs: config.sweepGraceMs,
      skipHosts: new Set(config.skipHosts),
      skipDids: this.#skipDids,
      shard: this.#shard,
      allowPrivate: config.allowPrivate,
      liveLagMs: (host) => liveLagMs(this.#redis, config.firehoseStream, host),
      onSuspects: (dids) => this.accounts.suspect(dids),
      observer: repoMetrics(metrics),
    })
  }

  labels(): Labels {
    const { config, log, resources } = this.#context
    const upstreams = config.labelerHosts.map((host) => parseUpstream(host)!)
    const hosts = upstreams.map(({ host }) => host)
    const metrics = labelMetrics(this.#context.metrics, hosts)
    const producer = this.#producer(config.labelStream, labelEventCodec, config.labelHighWater)
    const shared = { producer, refusals: resources.use(new Refusals(log)), samples: this.#samples(config.labelStream) }
    const labelers = upstreams.map((upstream) => this.#labeler(upstream, undefined, metrics, shared))
    if (!config.labelerDiscovery) return new Labels({ log, labelers })
    const discover = (follow: (found: Found) => void, signal: AbortSignal) =>
      discoverLabelers(
        {
          xrpc: this.#xrpc,
          keys: this.#keys,
          relays: this.#relays,
          known: hosts,
          max: config.labelersMax,
          log,
          labelerAt: ({ upstream, did }) => this.#labeler(upstream, did, metrics, shared),
          follow,
        },
        signal,
      )
    return new Labels({ log, labelers, discover })
  }

  /** @param did the labeler's account, if it declared itself; undefined for a labeler that was configured */
  #labeler(
    upstream: Upstream,
    did: string | undefined,
    metrics: LabelMetrics,
    shared: Pick<LabelerOptions, 'producer' | 'refusals' | 'samples'>,
  ): Found {
    const { config, log } = this.#context
    const isConfigured = did === undefined
    const host = isConfigured ? upstream.host : DISCOVERED
    const labeler = new Labeler({
      upstream,
      did,
      redis: this.#redis,
      ...shared,
      // Labels of a labeler that nobody configured must be signed, whatever the level of verification.
      keys: config.verify === 'full' || !isConfigured ? this.#keys : undefined,
      log,
      observer: labelObserver(metrics, host),
      batchEvents: config.batchEvents,
      publicOnly: !isConfigured && !config.allowPrivate,
      futureCursorReset: config.futureCursorReset,
      recordIncident: (incident) => this.#incident({ ...incident, isLoss: false }),
    })
    return { host: upstream.host, labeler }
  }

  #verifying({ verifySeconds }: FirehoseMetrics): Verifying {
    const { verify: level, verifyThreads, collections: chosen, indexerCollections } = this.#context.config
    const options = { level, collections: wantedCollections(chosen, indexerCollections) }
    // With `off` only hashes are checked, which is cheaper than handing the frame to another thread.
    const threads = level === 'off' ? 0 : (verifyThreads ?? Math.min(4, availableParallelism() - 1))
    if (threads > 0) {
      const pool = new VerifierPool({ threads, verifier: options, onSeconds: (seconds) => verifySeconds.inc(seconds) })
      this.#context.resources.defer(() => pool.close())
      return pool
    }
    const verifier = new Verifier(options)
    return {
      verify(frame, _bytes, key) {
        const began = performance.now()
        const verification = verifier.verify(frame, key)
        verifySeconds.inc((performance.now() - began) / 1_000)
        return verification
      },
    }
  }

  #samples(stream: string): RefusalSamples {
    return new RefusalSamples({ redis: this.#redis, stream, onOutcome: this.#onSample })
  }

  #producer<E>(stream: string, codec: EntryEncoder<E>, entriesMax: number): Producer<E> {
    const { config, log, readiness } = this.#context
    const what = `append ${stream}`
    const highWater = new HighWater({
      redis: this.#redis,
      stream,
      entriesMax,
      memoryRatioMax: config.redisMemoryPercent / 100,
      onChange(held) {
        if (held) log.warn({ stream, why: held.detail }, 'appending waits until the consumers have caught up')
        else log.info({ stream }, 'appending goes on')
      },
    })
    this.#marks.set(stream, highWater)
    return new Producer({
      redis: this.#redis,
      stream,
      codec,
      highWater,
      onRetry({ error, delayMs, attempt }) {
        readiness.block(what, error.message)
        logRetry(log, delayMs, `appending to ${stream} failed`, error, { attempt })
      },
      onRecovered: () => readiness.clear(what),
    })
  }

  /** Records an incident for the operator. When events are lost, also requests a sweep. */
  async #incident({ isLoss, ...incident }: SourceIncident): Promise<void> {
    const { config } = this.#context
    await recordIncident(this.#redis, { ...incident, role: `ingester ${config.mode}` }, this.#countIncident)
    if (isLoss) await demandSweep(this.#redis, config.repoStream, incident.kind)
  }
}
