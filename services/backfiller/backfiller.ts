/**
 * The service: connects to Redis, and runs its parts until the signal. Its parts are two consumers (the priority stream
 * and the normal one), the schedules of later tries, the renewal of permits, and the dispatcher between them.
 *
 * Work that is under way at the signal is abandoned at once, since a fetch may take minutes. Its entries stay pending,
 * and the process takes them up again after a restart.
 */
import { once } from 'node:events'
import { HttpClient } from '@sluice/atproto/http.ts'
import type { CachedResolution } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { fileBytesMax } from '@sluice/atproto/slabs.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { wantedCollections } from '@sluice/collections/collections.ts'
import { collectionFilter } from '@sluice/collections/patterns.ts'
import { retry, sleep, type Retry } from '@sluice/runtime/backoff.ts'
import { Budget } from '@sluice/runtime/budget.ts'
import { isAbort, TransientError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { priorityStream } from '@sluice/streams/backfill-queue.ts'
import { consumerClientName } from '@sluice/streams/client-names.ts'
import { connectRedis, REDIS_BACKOFF, type Redis } from '@sluice/streams/connection.ts'
import type { ConsumerObserver } from '@sluice/streams/consumer.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { RedisIdentityCache } from '@sluice/streams/identity-cache.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { shardOfSetting } from '@sluice/streams/spread.ts'
import type { BackfillContext } from './backfill-repo.ts'
import { takeClaims } from './claims.ts'
import type { BackfillerConfig } from './config.ts'
import { observeConsumers } from './consumer-observer.ts'
import { CrashSuspects } from './crash-suspects.ts'
import { Dispatcher } from './dispatcher.ts'
import { exportEventEncoder } from './export-events.ts'
import { hostLimits, parseHostRules } from './host-rules.ts'
import { HostTally } from './host-tally.ts'
import { LetterShares } from './letter-shares.ts'
import { PdsLimits } from './pds-limits.ts'
import { Progress, type Now } from './progress.ts'
import { watchQueue } from './queue-lag.ts'
import { RepoMemories } from './repo-memory.ts'
import { RetrySchedule } from './retry-schedule.ts'

export interface BackfillerOptions {
  config: BackfillerConfig
  log: Logger
  metrics: Metrics
  readiness: Readiness
}

/** How many exports are verified and appended at once. While one waits for Redis, the others use the processor. */
const PARSERS = 4
/**
 * How many hosts of did:webs are asked at once, and how many lookups may wait for that. Each of these lookups holds one
 * of the dispatcher's 64 places for identities. 16 + 16 = 32 leave half of the places to did:plc, however many hosts
 * are silent. A lookup that is turned away is tried again within seconds (`crowded` in failures.ts), or minutes when
 * the hosts of its owner do not answer.
 */
const WEB_CONCURRENCY = 16
const WEB_WAITING = 16
/** Part of `BACKFILLER_MEMORY_BYTES`: the chunks of all parsers, as text and as bytes. */
const CHUNKS_BYTES = 32 * 1024 ** 2
/**
 * What the log says while Redis is full. The indexer makes room only where streams take the memory; chain records stay.
 */
const FULL =
  'holds back, and fetches nothing until Redis has room. If its streams are short (`sluice status`), it is full of chain records, which stay (60 bytes for each account): raise its maxmemory'

export class Backfiller implements Service {
  readonly name = 'backfiller'
  readonly #options: BackfillerOptions
  readonly #progress: Progress
  readonly #memories: RepoMemories
  /** The stream that is read first, and the normal one. */
  readonly #streams: readonly string[]
  readonly #observe: (stream: string) => Partial<ConsumerObserver>
  #redis: Redis | undefined
  #now: () => Now = () => ({ underWay: 0, waiting: 0, hosts: 0, memoryBytes: 0, heldBy: undefined })

  constructor(options: BackfillerOptions) {
    const { config, metrics } = options
    this.#options = options
    this.#memories = new RepoMemories(config.memoryBytes - CHUNKS_BYTES)
    this.#progress = new Progress(metrics)
    this.#streams = [priorityStream(config.backfillStream), config.backfillStream]
    this.#observe = observeConsumers(this.#streams, { ...options, progress: this.#progress })
    const redis = (): Redis => {
      if (this.#redis === undefined) throw new TransientError('not connected to Redis')
      return this.#redis
    }
    this.#progress.watch(metrics, { redis, stream: config.backfillStream, now: () => this.#now() })
  }

  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const stopping = AbortSignal.any([signal, stop.signal])
    await using resources = new AsyncDisposableStack()
    const redis = await this.#connect('main', signal, resources)
    this.#redis = redis
    const context = await this.#context(redis, stopping, resources)
    const { dispatcher, schedule } = this.#dispatcher(redis, context, stopping)
    const { readiness } = this.#options
    const streams = this.#streams
    const parts = [
      // `dispatcher.failed` never resolves, so without a failure this part ends with the signal.
      Promise.race([dispatcher.failed, once(stopping, 'abort').then(() => undefined)]),
      this.#renew(context.limits, stopping),
      watchQueue({ redis, readiness, streams }, stopping),
      ...streams.map((stream) => this.#feed(stream, { redis, schedule, dispatcher }, stopping)),
      ...streams.map((stream) =>
        schedule.run(stream, stopping, (retry) =>
          this.#logRetry('putting entries that are due back into the stream failed', retry),
        ),
      ),
    ].map((part) => part.catch((error: unknown) => (stop.abort(), Promise.reject(error))))
    const results = await Promise.allSettled(parts)
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []))
    const [failure] = failures.filter((error) => !(isAbort(error) && stopping.aborted))
    if (failure !== undefined) throw failure
  }

  /** Hands the entries of one stream to the dispatcher. */
  async #feed(
    stream: string,
    { redis, schedule, dispatcher }: { redis: Redis; schedule: RetrySchedule; dispatcher: Dispatcher },
    signal: AbortSignal,
  ): Promise<void> {
    const { config } = this.#options
    const options = {
      redis,
      redisUrl: config.redisUrl,
      address: { stream, group: config.group, consumer: config.consumer },
      urgent: stream !== config.backfillStream,
      schedule,
      reclaimIdleMs: config.reclaimIdleMs,
      observer: this.#observe(stream),
      onRetry: (retry: Retry) => this.#logRetry('giving an entry back failed', retry),
    }
    await takeClaims(options, { take: (claim) => dispatcher.take(claim), close: () => dispatcher.close() }, signal)
  }

  async #context(redis: Redis, signal: AbortSignal, resources: AsyncDisposableStack): Promise<BackfillContext> {
    const { config } = this.#options
    const limits = new PdsLimits({ redis, stream: config.backfillStream, limitsOf: this.#limitsOf() })
    // The operator names the directory, so it may have any address. All other hosts are named by strangers.
    const allowOrigins = [config.plcUrl]
    const http = new HttpClient({ allowPrivate: config.allowPrivate, allowOrigins, connectionsPerHost: 64 })
    resources.defer(() => http.close())
    const xrpc = new XrpcClient(http, {
      onRateLimit: (origin, { remaining, resetMs = 5_000 }) => {
        if (remaining !== undefined) void limits.observe(new URL(origin).host, { remaining, resetMs })
      },
    })
    const identities = new IdentityResolver({
      plcUrl: config.plcUrl,
      http,
      cache: new RedisIdentityCache<CachedResolution>({ redis }),
      webConcurrency: WEB_CONCURRENCY,
      webWaiting: WEB_WAITING,
      webSlowTurnedAway: true,
    })
    return {
      redis,
      queue: config.backfillStream,
      xrpc,
      limits,
      identities,
      // A repository that needs more of the disk than one file may take would never find room, and would be tried for
      // ever. With this limit it is refused as too large.
      options: { ...config, repoBytes: Math.min(config.repoBytes, fileBytesMax(config.spoolBytes)) },
      disk: new Budget(config.spoolBytes),
      producer: await this.#producer(signal, resources),
      wanted: collectionFilter(wantedCollections(config.collections, config.indexerCollections)),
      parsers: new Budget(PARSERS),
      alwaysResync: config.exports === 'resync',
      onBytes: (bytes) => this.#progress.bytes(bytes),
      onChunk: (chunk) => this.#progress.chunk(chunk),
    }
  }

  async #producer(signal: AbortSignal, resources: AsyncDisposableStack) {
    const { config, log } = this.#options
    // A connection of its own: an append of half a megabyte would delay the small commands of the host limits.
    const redis = await this.#connect('append', signal, resources)
    const highWater = new HighWater({
      redis,
      stream: config.firehoseStream,
      entriesMax: config.highWaterMark,
      memoryRatioMax: config.redisMemoryPercent / 100,
      onChange: (held) => {
        if (!held) return log.info('fetches again')
        const why = held.detail
        if (held.by === 'memory') log.warn({ why }, FULL)
        else log.info({ why }, 'holds back, and fetches nothing until the indexer has caught up')
        void this.#untilRoom(highWater, signal)
      },
    })
    this.#heldBy = () => highWater.held?.by
    return new Producer({
      redis,
      stream: config.firehoseStream,
      codec: exportEventEncoder,
      highWater,
      onRetry: (retry) => this.#logRetry('appending failed', retry),
    })
  }

  /**
   * Waits until there is room in Redis again, then wakes the dispatcher. While fetching pauses, perhaps nothing is
   * being appended, and then no append notices that there is room. Outages of Redis are waited out. Never rejects.
   */
  async #untilRoom(highWater: HighWater, signal: AbortSignal): Promise<void> {
    const onWait = (retry: Retry): void => this.#logRetry('looking for room in Redis failed', retry)
    // An error that no wait can mend need not be reported here: the schedule and the consumers get it too, and stop the
    // process.
    await retry(signal, REDIS_BACKOFF, () => highWater.room(signal), onWait).catch(() => undefined)
    this.#wake()
  }

  #heldBy: () => Now['heldBy'] = () => undefined
  #wake: () => void = () => undefined

  #dispatcher(redis: Redis, context: BackfillContext, signal: AbortSignal) {
    const { config, log } = this.#options
    const schedule = new RetrySchedule({ redis, entriesMax: config.waitingMax })
    const dispatcher = new Dispatcher(
      {
        context,
        log,
        memories: this.#memories,
        suspects: new CrashSuspects(redis, config.group),
        shares: new LetterShares(redis),
        tally: new HostTally(redis, config.backfillStream),
        progress: this.#progress,
        role: `backfiller ${config.consumer}`,
        concurrency: config.concurrency,
        skipHosts: config.skipHosts,
        fetchFrom: config.fetchFrom,
        plainHttp: config.allowPrivate,
        retryMs: config.retryMs,
        retryMaxMs: config.retryMaxMs,
        mayBegin: () => this.#heldBy() === undefined,
      },
      signal,
    )
    this.#wake = () => dispatcher.wake()
    this.#now = () => ({
      underWay: dispatcher.running,
      waiting: dispatcher.waiting,
      hosts: dispatcher.hosts,
      memoryBytes: this.#memories.usedBytes,
      heldBy: this.#heldBy(),
    })
    return { dispatcher, schedule }
  }

  async #renew(limits: PdsLimits, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(limits.renewMs, signal).catch(() => undefined)
      // A permit that is not renewed expires, and another request may get its place. Then the host may get more
      // requests at once than it allows. No data is harmed.
      if (!signal.aborted)
        await limits
          .renew()
          .catch((error: unknown) => logRetry(this.#options.log, limits.renewMs, 'renewing permits failed', error))
    }
  }

  #limitsOf() {
    const { hostRules, hostConcurrency, hostRequests, shard } = this.#options.config
    const fallback = { concurrency: hostConcurrency, requests: hostRequests }
    return hostLimits(parseHostRules(hostRules).rules, fallback, shardOfSetting(shard).of)
  }

  async #connect(purpose: string, signal: AbortSignal, resources: AsyncDisposableStack): Promise<Redis> {
    const { config, log, readiness } = this.#options
    const condition = `Redis (${purpose})`
    readiness.block(condition, 'connecting')
    const redis = await connectRedis({
      url: config.redisUrl,
      name: consumerClientName('backfiller', config.consumer, purpose),
      signal,
      onState: (error) => {
        if (!error) return readiness.clear(condition)
        readiness.block(condition, error.message)
        log.warn({ error: error.message }, `${condition}: connection lost or refused, trying again`)
      },
    })
    resources.defer(async () => redis.destroy())
    return redis
  }

  #logRetry(what: string, { delayMs, error, attempt }: Retry): void {
    logRetry(this.#options.log, delayMs, what, error, { attempt })
  }
}
