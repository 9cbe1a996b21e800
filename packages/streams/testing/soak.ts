/**
 * A long run in short time: round after round of load, cut connections, failing workers and short-lived neighbours
 * around one consumer that never ends. After each round it measures what the process still keeps. A figure that grows
 * from round to round is a leak.
 */
import { getEventListeners } from 'node:events'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { connectRedis, type Redis } from '../connection.ts'
import { Consumer } from '../consumer.ts'
import { HighWater } from '../high-water.ts'
import { Producer } from '../producer.ts'
import { eventsFrom, peekTestKey, testCodec, type TestEvent } from './events.ts'

export interface SoakOptions {
  /** The Redis of this test alone: its connections are cut. */
  url: string
  rounds: number
  /** In one round. */
  events: number
}

export interface SoakRound {
  /** Heap and buffers that are in use when all garbage is gone. */
  keptBytes: number
  rssBytes: number
  /** Listeners on the signals of the long-lived consumer. */
  listeners: number
  heldEntries: number
  /** The faults that happened in the round. */
  cuts: number
  acked: number
  troubles: number
}

const STREAM = 'soak'
const BATCH = 250
const FILLER = 'x'.repeat(400)
const LIMITS = { blockMs: 100, reclaimIdleMs: 200, leaseMs: 500, lingerMs: 0, finishMs: 5_000, retireIdleMs: 100 }
const BACKOFF = { baseMs: 5, capMs: 50, healthyAfterMs: 1_000 }

/** Plays all rounds; every event of a round is acked when it ends. */
export async function soak({ url, rounds, events }: SoakOptions): Promise<SoakRound[]> {
  const connect = async (name: string) => connectRedis({ url, name, limits: { reconnectMaxMs: 20 } })
  const [driver, redis, reader, writer] = await Promise.all(['driver', 'soak', 'soak-reader', 'writer'].map(connect))
  const state = { acked: 0, troubles: 0 }
  const stop = new AbortController()
  const long = consumerOf('long', redis!, reader!, state)
  const running = long.run(stop.signal, 3, ackAll(state))
  const highWater = new HighWater({ redis: writer!, stream: STREAM, entriesMax: 1e9 })
  const common = { stream: STREAM, codec: testCodec, highWater, backoff: BACKOFF }
  const producer = new Producer<TestEvent>({ redis: writer!, ...common })
  const found: SoakRound[] = []
  try {
    for (let round = 0; round < rounds; round++) {
      const before = { ...state }
      const cuts = await playRound({ driver: driver!, producer, events, round, stop, connect, state })
      found.push({
        ...kept(),
        listeners: getEventListeners(stop.signal, 'abort').length,
        heldEntries: long.heldEntries,
        cuts,
        acked: state.acked - before.acked,
        troubles: state.troubles - before.troubles,
      })
    }
  } finally {
    stop.abort()
    await running
    for (const client of [driver!, redis!, reader!, writer!]) client.destroy()
  }
  return found
}

interface RoundOptions {
  driver: Redis
  producer: Producer<TestEvent>
  events: number
  round: number
  stop: AbortController
  connect: (name: string) => Promise<Redis>
  state: { acked: number; troubles: number }
}

/** Returns how many connections it cut. */
async function playRound({ driver, producer, events, round, stop, connect, state }: RoundOptions): Promise<number> {
  const [redis, reader] = await Promise.all([connect('short'), connect('short-reader')])
  const end = new AbortController()
  const short = consumerOf('short', redis, reader, state).run(end.signal, 2, ackAll(state))
  let cuts = 0
  for (let done = 0; done < events; done += BATCH) {
    if (done % (BATCH * 8) === 0) {
      cuts += Number(await driver.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']))
    }
    const batch = eventsFrom(round * events + done, BATCH).map((event) => ({ ...event, filler: FILLER }))
    await producer.append(batch, stop.signal)
  }
  while ((await driver.xLen(STREAM)) > 0) await new Promise((resolve) => setTimeout(resolve, 20))
  end.abort()
  await short
  for (const client of [redis, reader]) client.destroy()
  return cuts
}

function consumerOf(name: string, redis: Redis, reader: Redis, state: { troubles: number }): Consumer<TestEvent> {
  return new Consumer<TestEvent>({
    redis,
    reader,
    address: { stream: STREAM, group: 'g', consumer: name },
    codec: testCodec,
    key: ({ key }) => key,
    peekKey: peekTestKey,
    limits: LIMITS,
    backoff: BACKOFF,
    observer: { trouble: () => void state.troubles++ },
  })
}

function ackAll(state: { acked: number }): Parameters<Consumer<TestEvent>['run']>[2] {
  return async (batches) => {
    for await (const batch of batches) {
      await batch.ack()
      state.acked += batch.events.length
    }
  }
}

setFlagsFromString('--expose_gc')
const collectGarbage = runInNewContext('gc') as () => void

function kept(): { keptBytes: number; rssBytes: number } {
  // Twice: objects that a finalizer releases become garbage only after the first collection.
  collectGarbage()
  collectGarbage()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { keptBytes: heapUsed + external, rssBytes: rss }
}
