/** Measures our indexer as in production: a separate process, from entries in Redis to committed rows and acks. */
import { setTimeout as sleep } from 'node:timers/promises'
import { streamEventCodec, type EntryFields } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { type Daemon, startDaemon } from '../daemon.ts'
import { SCHEMA } from '../template.ts'
import type { Bed, Costs } from './bed.ts'

export const STREAM = 'firehose_live'

export interface OursOptions {
  /** Indexers side by side. Default 1. */
  consumers?: number
  /** Events that the same processes apply before the measurement. In its first seconds a process compiles the code that it then runs for weeks. */
  warming?: Iterable<EntryFields[]>
  /** Called after the warming events, before the measured events. */
  onWarm?: () => Promise<void>
}

/** Time and cost of applying `events`, from the first of them to the last ack. */
export async function measureOurs(
  bed: Bed,
  database: { name: string; url: string },
  events: Iterable<readonly EntryFields[]>,
  { consumers = 1, warming = [], onWarm }: OursOptions = {},
): Promise<Costs> {
  await using redis = await openRedis(bed)
  await redis.flushDb()
  const indexers = await Promise.all(
    Array.from({ length: consumers }, (_, i) => startIndexer(bed, database.url, `bench-${i + 1}`)),
  )
  await using _ = closing(indexers)
  await applyAll(redis, warming)
  await onWarm?.()
  // The stream is filled while the indexers are paused, so that the measurement does not include this process's appends.
  for (const indexer of indexers) indexer.pause()
  for (const chunk of events) await append(redis, STREAM, chunk)
  const pids = indexers.map(({ pid }) => pid)
  return await bed.costs(
    database.name,
    async () => {
      for (const indexer of indexers) indexer.resume()
      await applied(redis)
    },
    pids,
  )
}

/** Applies events without measuring, to fill a database before a measurement. */
export async function fill(bed: Bed, database: { url: string }, events: Iterable<EntryFields[]>): Promise<void> {
  await using redis = await openRedis(bed)
  await redis.flushDb()
  await using _ = closing([await startIndexer(bed, database.url, 'filler')])
  await applyAll(redis, events)
}

/** Appends and waits until it is applied. */
export async function applyAll(redis: Redis, events: Iterable<EntryFields[]>): Promise<void> {
  for (const chunk of events) {
    await append(redis, STREAM, chunk)
    while ((await redis.xLen(STREAM)) > 40_000) await sleep(50)
  }
  await applied(redis)
}

/** Waits until the stream is empty. Looks seldom: every 10 ms, it took 4 to 8 % of a core from what is measured. */
export async function applied(redis: Redis): Promise<void> {
  while ((await redis.xLen(STREAM)) > 0) await sleep(50)
}

export async function startIndexer(bed: Bed, url: string, consumer: string, env: Record<string, string> = {}) {
  return await startDaemon({
    role: 'indexer',
    id: consumer,
    env: {
      LOG_LEVEL: 'warn',
      REDIS_URL: bed.redis.url(),
      DB_POSTGRES_URL: url,
      DB_POSTGRES_SCHEMA: SCHEMA,
      INDEXER_CONSUMER: consumer,
      // Made-up accounts have no handles.
      INDEXER_HANDLES: 'false',
      ...env,
    },
  })
}

/** Encodes events for Redis. Encoded, each takes a few hundred bytes; as objects they take some kilobytes each, which every garbage collection walks through. */
export function encode(events: readonly StreamEvent[]): EntryFields[] {
  return events.map((event) => streamEventCodec.encode(event))
}

export async function append(redis: Redis, stream: string, events: readonly EntryFields[]): Promise<void> {
  for (let at = 0; at < events.length; at += 1_000) {
    await Promise.all(events.slice(at, at + 1_000).map((fields) => redis.xAdd(stream, '*', fields)))
  }
}

export async function openRedis(bed: Bed): Promise<Redis & AsyncDisposable> {
  const client = await connectRedis({ url: bed.redis.url(), name: 'bench' })
  // By default a command that could not be sent for 5 s fails. Redis may stop for so long when PostgreSQL keeps its disk busy.
  const redis = client.withCommandOptions({ timeout: 300_000 }) as Redis
  return Object.assign(redis, {
    [Symbol.asyncDispose]: () => {
      redis.destroy()
      return Promise.resolve()
    },
  })
}

function closing(daemons: readonly Daemon[]): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(daemons.map((daemon) => daemon.stop()))
    },
  }
}
