/** Measures how long an event takes from XADD until its row is visible, at a steady rate, while a backfill runs beside it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { streamEventCodec, type EntryFields } from '@sluice/events/codec.ts'
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'
import { Client } from 'pg'
import { SCHEMA } from '../template.ts'
import type { Bed } from './bed.ts'
import { append, applyAll, openRedis, startIndexer, STREAM } from './ours.ts'

export interface Latency {
  eventsPerSecond: number
  samples: number
  p50Ms: number
  p99Ms: number
  maxMs: number
  /** How many entries of the backfill were applied meanwhile. */
  backfilled: number
}

const TICK_MS = 10
/** Every tenth event is measured. */
const SAMPLE = 10

export async function measureLatency(
  bed: Bed,
  database: { url: string },
  live: readonly StreamEvent[],
  backfill: readonly EntryFields[],
  eventsPerSecond: number,
  warming: Iterable<EntryFields[]>,
): Promise<Latency> {
  await using redis = await openRedis(bed)
  await redis.flushDb()
  const indexer = await startIndexer(bed, database.url, 'latency')
  await applyAll(redis, warming)
  // The backfill's stream is filled while the indexer is paused, so that all of it competes with the live events.
  indexer.pause()
  await append(redis, 'firehose_backfill', backfill)
  await bed.quiet()
  indexer.resume()
  const client = new Client({ connectionString: database.url, options: `-c search_path=${SCHEMA}` })
  await client.connect()
  const waiting = new Map<string, number>()
  const seconds: number[] = []
  let sent = 0
  const look = async (): Promise<void> => {
    const { rows } = await client.query<{ uri: string }>({
      name: 'look',
      text: 'select uri from record where uri = any($1::text[])',
      values: [[...waiting.keys()]],
    })
    const now = performance.now()
    for (const { uri } of rows) {
      seconds.push(now - waiting.get(uri)!)
      waiting.delete(uri)
    }
  }
  const backfillBefore = await redis.xLen('firehose_backfill')
  const startedAt = performance.now()
  try {
    while (sent < live.length || waiting.size > 0) {
      const due = Math.min(live.length, Math.floor(((performance.now() - startedAt) / 1000) * eventsPerSecond))
      const batch = live.slice(sent, due)
      for (const [i, event] of batch.entries()) {
        if ((sent + i) % SAMPLE === 0 && event.type === 'create') waiting.set(uriOf(event), performance.now())
      }
      sent = due
      await Promise.all(batch.map((event) => redis.xAdd(STREAM, '*', streamEventCodec.encode(event) as never)))
      if (waiting.size > 0) await look()
      await sleep(TICK_MS)
      // All events are applied, and this row is not visible: it was deleted before it was seen, or never inserted. It has no latency.
      if (sent === live.length && (await redis.xLen(STREAM)) === 0) break
    }
    if (waiting.size > 0) await look()
    const backfilled = backfillBefore - (await redis.xLen('firehose_backfill'))
    return { eventsPerSecond, ...summary(seconds), backfilled }
  } finally {
    await client.end()
    await indexer.kill()
  }
}

function summary(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (part: number): number =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN)
  return { samples: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) }
}
