/**
 * A producer in a process of its own, for tests that kill it. It appends numbered events in small batches, from the
 * position of the cursor in Redis, as an ingester does, until `SLUICE_TEST_EVENTS`.
 */
import { connectRedis } from '../connection.ts'
import { HighWater } from '../high-water.ts'
import { Producer } from '../producer.ts'
import { eventsFrom, testCodec, type TestEvent } from './events.ts'

const { SLUICE_TEST_URL: url = '' } = process.env
const events = Number(process.env.SLUICE_TEST_EVENTS)
const CURSOR = 's:cursor:upstream'
const BATCH = 10

const redis = await connectRedis({ url, name: 'producer' })
const highWater = new HighWater({ redis, stream: 's', entriesMax: 1e9 })
const producer = new Producer<TestEvent>({ redis, stream: 's', codec: testCodec, highWater })
const never = new AbortController().signal
for (let from = await redis.get(CURSOR); Number(from) < events;) {
  const to: string = String(Number(from) + BATCH)
  await producer.append(eventsFrom(Number(from), BATCH), never, { cursor: { key: CURSOR, from, to } })
  from = to
}
redis.destroy()
