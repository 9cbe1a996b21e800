/**
 * Events through Redis with nothing behind it: how many a second one producer appends and one consumer reads, decodes
 * and acks, and what that costs on either side. `node throughput.bench.ts`.
 *
 * Redis 7.0 with AOF, the network's mix of events, two busy cores for all of it: 26,600 entries/s appended (6.0 µs of
 * node and 6.8 of Redis each), 20,700 consumed (7.0 and 4.9), 15,000 at once (10.9 and 9.7); 628 bytes of Redis memory
 * an entry. The CPU is what to compare: seconds depend on who else is at work.
 */
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { Load } from '@sluice/sandbox/load.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from './connection.ts'
import { Consumer } from './consumer.ts'
import { HighWater } from './high-water.ts'
import { Producer } from './producer.ts'

export interface StreamsBenchOptions {
  /** The address of a Redis that holds nothing else. */
  redisUrl: string
  events?: number
  /** Events in one append. */
  batchEvents?: number
  lanes?: number
}

export interface StreamsBench {
  /** First everything is appended, then everything is consumed. */
  appended: Rate
  consumed: Rate
  /** Appending and consuming at the same time. */
  through: Rate
  bytesPerEntry: number
}

export interface Rate {
  perSecond: number
  /** CPU of this process and of Redis, for each entry. */
  nodeMicros: number
  redisMicros: number
}

const STREAM = 'bench'
const SAMPLE_EVENTS = 20_000
const never = new AbortController().signal

/** Appends and consumes. Nothing is left in the stream. */
async function benchStreams({
  redisUrl,
  events = 200_000,
  batchEvents = 500,
  lanes = 4,
}: StreamsBenchOptions): Promise<StreamsBench> {
  const sample = new Load({ seed: 1 }).take(Math.min(SAMPLE_EVENTS, events))
  const [writer, redis, reader] = await Promise.all(
    ['writer', 'redis', 'reader'].map(async (name) => connectRedis({ url: redisUrl, name: `bench-${name}` })),
  )
  const highWater = new HighWater({ redis: writer!, stream: STREAM, entriesMax: 1e9 })
  const producer = new Producer<StreamEvent>({ redis: writer!, stream: STREAM, codec: streamEventCodec, highWater })
  const consumer = new Consumer<StreamEvent>({
    redis: redis!,
    reader: reader!,
    address: { stream: STREAM, group: 'bench', consumer: 'one' },
    codec: streamEventCodec,
    key: ({ did }) => did,
  })
  const append = async (): Promise<void> => {
    for (let done = 0; done < events; done += batchEvents) {
      const from = done % sample.length
      await producer.append(sample.slice(from, from + Math.min(batchEvents, events - done)), never)
    }
  }
  try {
    const appended = await rateOf(redis!, events, append)
    const bytesPerEntry = ((await redis!.memoryUsage(STREAM, { SAMPLES: 0 })) ?? 0) / events
    const consumed = await rateOf(redis!, events, async () => drain(consumer, events, lanes))
    const through = await rateOf(redis!, events, async () => {
      await Promise.all([append(), drain(consumer, events, lanes)])
    })
    return { appended, consumed, through, bytesPerEntry }
  } finally {
    for (const client of [writer!, redis!, reader!]) client.destroy()
  }
}

/** Consumes until so many events are acked. */
async function drain(consumer: Consumer<StreamEvent>, events: number, lanes: number): Promise<void> {
  const enough = new AbortController()
  let left = events
  await consumer.run(enough.signal, lanes, async (batches) => {
    for await (const batch of batches) {
      await batch.ack()
      left -= batch.events.length
      if (left <= 0) enough.abort()
    }
  })
}

async function rateOf(redis: Redis, entries: number, act: () => Promise<void>): Promise<Rate> {
  const [cpu, redisCpu, startMs] = [process.cpuUsage(), await redisCpuSeconds(redis), performance.now()]
  await act()
  const seconds = (performance.now() - startMs) / 1_000
  const { user, system } = process.cpuUsage(cpu)
  return {
    perSecond: entries / seconds,
    nodeMicros: (user + system) / entries,
    redisMicros: (((await redisCpuSeconds(redis)) - redisCpu) * 1e6) / entries,
  }
}

async function redisCpuSeconds(redis: Redis): Promise<number> {
  const info = await redis.info('cpu')
  return ['used_cpu_user', 'used_cpu_sys'].reduce(
    (sum, name) => sum + Number(new RegExp(`^${name}:(.*)$`, 'm').exec(info)?.[1] ?? 0),
    0,
  )
}

if (import.meta.main) {
  await using server = await startRedis()
  const { bytesPerEntry, ...rates } = await benchStreams({ redisUrl: server.url() })
  for (const [what, { perSecond, nodeMicros, redisMicros }] of Object.entries(rates)) {
    console.log(
      `${what.padEnd(9)} ${Math.round(perSecond).toLocaleString('en')} entries/s; each ${nodeMicros.toFixed(1)} µs of node, ${redisMicros.toFixed(1)} µs of Redis`,
    )
  }
  console.log(`${Math.round(bytesPerEntry)} bytes of Redis memory each`)
}
