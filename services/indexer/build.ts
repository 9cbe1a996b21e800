/** Assembles the indexer: connections, schema, and for each stream one consumer with its lanes. */
import { availableParallelism } from 'node:os'
import { collections, tableScripts } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { RETRIED_REASONS, type RetriedReason } from '@sluice/database/errors.ts'
import { assertMigrated, migrate } from '@sluice/database/migrate.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { labelEventCodec, peekDid, streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { retry, DEFAULT_BACKOFF } from '@sluice/runtime/backoff.ts'
import { describeError } from '@sluice/runtime/errors.ts'
import { logRetry } from '@sluice/runtime/log.ts'
import type { RoleContext } from '@sluice/runtime/main.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { consumerClientName } from '@sluice/streams/client-names.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { Consumer, type ConsumerObserver, type ConsumerOptions } from '@sluice/streams/consumer.ts'
import { countIncidents } from '@sluice/streams/incidents.ts'
import { Turns } from '@sluice/streams/turns.ts'
import { buildIdentity } from './build-identity.ts'
import type { IndexerConfig } from './config.ts'
import { observeConsumers } from './consumer-observer.ts'
import { indexStream } from './index-stream.ts'
import { watchFailovers } from './failover-watch.ts'
import { LabelIndex } from './label-index.ts'
import { Precedence } from './precedence.ts'
import { RecordIndex } from './record-index.ts'
import { RefusalLog } from './refusal-log.ts'
import { LaterSettling } from './settle-later.ts'
import { watchStreams } from './stream-watch.ts'
import type { Outages } from './waiting.ts'

/** The part of a full batch that a backfill stream gets while live events flow. */
const SMALL_SHARE = 1 / 16

/**
 * Returns when Redis and PostgreSQL can be reached and the schema is in the state that this version needs.
 * @throws FatalError; AbortError on the signal
 */
export async function buildIndexer(context: RoleContext<IndexerConfig>): Promise<Service[]> {
  const { config, metrics } = context
  const lanes = Math.min(config.concurrency, availableParallelism())
  const actors = new KnownActors()
  const { forBatches, forOthers } = await openDatabase(context, lanes, () => actors.forgetAll())
  const redis = await connect(context, 'commands')
  const streams = [...config.streams, config.labelStream]
  const refusals = context.resources.use(new RefusalLog(context.log))
  const countIncident = countIncidents(context.metrics)
  const observe = observeConsumers(streams, { ...context, refusals, countIncident })
  const outages = declareOutages(context)
  const index = {
    db: forBatches,
    collections: new CollectionSet(collections, config.collections),
    actors,
  }
  const records = new RecordIndex(index, outages, refusals, metrics)
  const labels = new LabelIndex(forOthers, outages, metrics)
  const limits = {
    batchEvents: config.batchEvents,
    // While one full batch of each lane is applied, as many entries again may be read.
    heldEntries: config.batchEvents * 2 * lanes,
    heldBytes: config.heldBytes,
    reclaimIdleMs: config.reclaimIdleMs,
  }
  const shared = { redis, limits, processTurns: new Turns() }
  const consumers = await recordConsumers(context, shared, lanes, observe)
  const labelConsumer = new Consumer({
    ...shared,
    reader: await connect(context, config.labelStream),
    address: { stream: config.labelStream, group: config.labelGroup, consumer: config.consumer },
    codec: labelEventCodec,
    key: ({ label }) => label.uri,
    observer: observe(config.labelStream),
  })
  return [
    ...consumers.map((consumer) => indexStream(consumer, records, lanes)),
    indexStream(labelConsumer, labels, 1),
    watchStreams({ ...context, redis, streams }),
    watchFailovers({ db: forOthers, redis, log: context.log, consumer: context.config.consumer, countIncident }),
    new LaterSettling({ ...context, index: { ...index, db: forOthers } }),
    ...buildIdentity(context, { ...index, db: forOthers }, redis),
  ]
}

/** Makes one consumer for each stream of events, the most urgent stream first. */
async function recordConsumers(
  context: RoleContext<IndexerConfig>,
  shared: Pick<ConsumerOptions<StreamEvent>, 'redis' | 'limits' | 'processTurns'>,
  lanes: number,
  observe: (stream: string) => ConsumerObserver,
): Promise<Consumer<StreamEvent>[]> {
  const { streams, group, consumer } = context.config
  const precedence = new Precedence(streams.length, lanes, SMALL_SHARE)
  return await Promise.all(
    streams.map(async (stream, i) => {
      const observer = observe(stream)
      const read = (entries: number): void => {
        precedence.read(i)
        observer.read(entries)
      }
      return new Consumer({
        ...shared,
        reader: await connect(context, stream),
        address: { stream, group, consumer },
        codec: streamEventCodec,
        key: ({ did }) => did,
        peekKey: peekDid,
        batchShare: () => precedence.batchShare(i),
        turn: (lane) => precedence.turn(lane),
        observer: { ...observer, read },
      })
    }),
  )
}

interface Pools {
  /**
   * Reserved for batches. The connection that was used last is lent first: a backend that has already mapped and cached
   * the indexes is fast, a fresh one is slow.
   */
  forBatches: DatabasePool
  forOthers: DatabasePool
}

/**
 * Waits until PostgreSQL can be reached. Then brings its schema to the state that this version needs, or says what is
 * missing.
 * @param batches how many batches may be under way at the same time
 * @param onSession called for each new session of batches
 */
async function openDatabase(
  context: RoleContext<IndexerConfig>,
  batches: number,
  onSession: () => void,
): Promise<Pools> {
  const { config, log, metrics, readiness, resources, signal } = context
  const { postgresUrl: url, postgresSchema: schema, poolSize, consumer } = config
  const onIdleError = (error: Error): void =>
    log.warn(
      { error: describeError(error) },
      'an idle connection to PostgreSQL broke; another is opened when it is needed',
    )
  const retries = metrics.counter({
    name: 'sluice_database_retries_total',
    help: 'Transactions that were tried again at once. Some deadlocks are normal with several indexers. If there are many, look in pg_stat_activity at what holds locks.',
    labels: { reason: RETRIED_REASONS },
  })
  const onRetry = (reason: RetriedReason): void => retries.inc(1, { reason })
  const shared = { url, schema, role: 'indexer', consumer, byKey: true, onIdleError, onRetry }
  const size = Math.max(1, Math.min(batches, poolSize - OTHERS_MIN))
  const pools = {
    forBatches: resources.use(new DatabasePool({ ...shared, size, onSession })),
    forOthers: resources.use(new DatabasePool({ ...shared, size: poolSize - size })),
  }
  const prepare = async (): Promise<void> => {
    if (!config.migrateAtStart) return assertMigrated(pools.forOthers, tableScripts())
    const { applied } = await migrate(url, schema, tableScripts())
    if (applied.length > 0) log.info({ applied }, 'migrated the database')
  }
  readiness.block('postgres', 'connecting')
  await retry(signal, DEFAULT_BACKOFF, prepare, ({ error, delayMs }) => {
    readiness.block('postgres', error.message)
    logRetry(log, delayMs, 'preparing the database failed', error)
  })
  readiness.clear('postgres')
  declareConnections(context, Object.values(pools))
  return pools
}

/** Connections that batches leave to everything else, unless the pool is smaller than that. */
const OTHERS_MIN = 2

function declareConnections({ metrics }: RoleContext<IndexerConfig>, pools: readonly DatabasePool[]): void {
  metrics.gauge({
    name: 'sluice_database_connections',
    help: 'Connections to PostgreSQL. When waiting is above 0 for long, the pool is too small, or statements are slow.',
    labels: { state: CONNECTION_STATES },
    collect: (gauge) => {
      for (const state of CONNECTION_STATES) gauge.set(sum(pools.map((pool) => pool.gauges()[state])), { state })
    },
  })
}

const CONNECTION_STATES = ['total', 'idle', 'waiting'] as const

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0)
}

async function connect(
  { config, log, readiness, resources, signal }: RoleContext<IndexerConfig>,
  purpose: string,
): Promise<Redis> {
  const what = `redis ${purpose}`
  readiness.block(what, 'connecting')
  const redis = await connectRedis({
    url: config.redisUrl,
    name: consumerClientName('indexer', config.consumer, purpose),
    signal,
    onState(error) {
      if (!error) return readiness.clear(what)
      readiness.block(what, error.message)
      log.warn({ error: error.message }, `${what}: connection lost or refused, trying again`)
    },
  })
  resources.defer(() => redis.destroy())
  return redis
}

function declareOutages({ log, metrics, readiness }: RoleContext<IndexerConfig>): Outages {
  const retries = metrics.counter({
    name: 'sluice_indexer_batch_retries_total',
    help: 'Batches that were tried again because PostgreSQL was away, busy or full. Nothing is lost. /ready says why.',
  })
  return { log, readiness, retries, reasons: new Map() }
}
