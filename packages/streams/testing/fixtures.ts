/** What the tests of this package share: connections and consumers that end with the test. */
import { test as base } from '@sluice/sandbox/fixtures.ts'
import { connectRedis, type ConnectOptions, type Redis } from '../connection.ts'
import { Consumer, type Batch, type ConsumerOptions, type Work } from '../consumer.ts'
import { HighWater, type HighWaterOptions } from '../high-water.ts'
import { Producer, type ProducerOptions } from '../producer.ts'
import { peekTestKey, testCodec, type TestEvent } from './events.ts'

export const address = { stream: 's', group: 'g', consumer: 'one' }

/** Short enough to see a takeover in a test. */
export const QUICK = { blockMs: 50, reclaimIdleMs: 400, leaseMs: 600, lingerMs: 0, finishMs: 5_000 }

export type TestConsumerOptions = Partial<ConsumerOptions<TestEvent>> & { redis: Redis; reader: Redis }

export interface Running {
  consumer: Consumer<TestEvent>
  /** Numbers of the events in the order they were acked. */
  acked: number[]
  /** Rejects as `run` does. */
  ended: Promise<void>
  stop(): Promise<void>
}

export interface Tools {
  connect(url: string, options?: Partial<ConnectOptions>): Promise<Redis>
  producer(redis: Redis, options?: Partial<ProducerOptions<TestEvent>> & Partial<HighWaterOptions>): Producer<TestEvent>
  /** Starts a consumer; without `work` it acks whatever comes. Stopped at the end of the test. */
  consume(options: TestConsumerOptions, work?: Work<TestEvent>, lanes?: number): Running
}

export const test = base.extend('tools', async ({}, { onCleanup }): Promise<Tools> => {
  const clients: Redis[] = []
  const running: Running[] = []
  onCleanup(async () => {
    await Promise.allSettled(running.map((one) => one.stop()))
    for (const client of clients) client.destroy()
  })
  return {
    async connect(url, options) {
      const limits = { reconnectMaxMs: 100, ...options?.limits }
      const client = await connectRedis({ url, name: 'streams-test', ...options, limits })
      clients.push(client)
      return client
    },
    producer(redis, { stream = address.stream, entriesMax = 1e9, ...options } = {}) {
      const highWater = new HighWater({ redis, stream, entriesMax, ...options })
      return new Producer({ redis, stream, codec: testCodec, highWater, ...options })
    },
    consume(options, work, lanes = 3) {
      const one = startConsumer(options, work, lanes)
      running.push(one)
      return one
    },
  }
})

function startConsumer(options: TestConsumerOptions, work: Work<TestEvent> | undefined, lanes: number): Running {
  const acked: number[] = []
  const consumer = new Consumer<TestEvent>({
    address,
    codec: testCodec,
    key: ({ key }) => key,
    peekKey: peekTestKey,
    backoff: { baseMs: 20, capMs: 100, healthyAfterMs: 1_000 },
    ...options,
    limits: { ...QUICK, ...options.limits },
  })
  const stop = new AbortController()
  const ended = consumer.run(stop.signal, lanes, work ?? ackAll(acked))
  ended.catch(() => {})
  return {
    consumer,
    acked,
    ended,
    async stop() {
      stop.abort()
      await ended
    },
  }
}

export function ackAll(acked: number[], before: (batch: Batch<TestEvent>) => unknown = () => {}): Work<TestEvent> {
  return async (batches) => {
    for await (const batch of batches) {
      await before(batch)
      await batch.ack()
      acked.push(...batch.events.map(({ n }) => n))
    }
  }
}

/** Has the first `count` entries delivered so often that they are worked on alone. */
export async function suspect(redis: Redis, stream: string, count: number): Promise<void> {
  const { group, consumer } = address
  await redis.xGroupCreate(stream, group, '0')
  await redis.xReadGroup(group, consumer, { key: stream, id: '>' }, { COUNT: count })
  const ids = (await redis.xPendingRange(stream, group, '-', '+', count)).map(({ id }) => id)
  await redis.xClaim(stream, group, consumer, 0, ids, { RETRYCOUNT: 5 })
}

export const never = new AbortController().signal
