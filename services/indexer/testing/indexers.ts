/** Events into a Redis database, indexer processes on it, and what they made of them. */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { snapshot, type Snapshot } from '@sluice/indexing/testing/snapshot.ts'
import { type Daemon, startDaemon } from '@sluice/sandbox/daemon.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { expect } from 'vitest'

export interface Place {
  database: string
  redisUrl: string
}

export async function startIndexer(
  { database, redisUrl }: Place,
  consumer: string,
  env: Record<string, string> = {},
): Promise<Daemon> {
  return await startDaemon({
    role: 'indexer',
    id: consumer,
    env: {
      REDIS_URL: redisUrl,
      DB_POSTGRES_URL: database,
      DB_POSTGRES_SCHEMA: SCHEMA,
      INDEXER_CONSUMER: consumer,
      INDEXER_RECLAIM_IDLE_MS: '2s',
      // There is no directory to ask.
      INDEXER_HANDLES: 'false',
      ...env,
    },
  })
}

/** A connection that closes itself. */
export async function openRedis(url: string): Promise<Redis & AsyncDisposable> {
  const redis = await connectRedis({ url, name: 'test' })
  return Object.assign(redis, {
    [Symbol.asyncDispose]: () => {
      redis.destroy()
      return Promise.resolve()
    },
  })
}

/** Appends events as the producers do, one entry each. */
export async function append(redis: Redis, stream: string, events: readonly StreamEvent[]): Promise<void> {
  for (let at = 0; at < events.length; at += 500) {
    await Promise.all(
      events.slice(at, at + 500).map((event) => redis.xAdd(stream, '*', streamEventCodec.encode(event) as never)),
    )
  }
}

/** Resolves when every entry of these streams has been acked and deleted. */
export async function drained(redis: Redis, streams: readonly string[], timeout = 60_000): Promise<void> {
  await expect
    .poll(async () => Promise.all(streams.map((stream) => redis.xLen(stream))), { timeout, interval: 100 })
    .toEqual(streams.map(() => 0))
}

/** The rows of a database. */
export async function rowsOf(url: string): Promise<Snapshot> {
  await using db = open(url)
  return await snapshot(db)
}

/** The rows of one process that applies one event after the other, in the natural order. */
export async function naturalRows(url: string, events: readonly StreamEvent[]): Promise<Snapshot> {
  await using db = open(url)
  const index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  for (const event of events) await applyBatch(index, [event])
  return await snapshot(db)
}

function open(url: string): DatabasePool & AsyncDisposable {
  const db = new DatabasePool({ url, schema: SCHEMA, size: 2, role: 'test' })
  return Object.assign(db, { [Symbol.asyncDispose]: () => db.close() })
}
