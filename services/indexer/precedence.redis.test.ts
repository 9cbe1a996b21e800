import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { Consumer, type Batch } from '@sluice/streams/consumer.ts'
import { dropDeadLetters } from '@sluice/streams/dead-letters.ts'
import { Turns } from '@sluice/streams/turns.ts'
import { Precedence } from './precedence.ts'

interface Note {
  n: number
  did: string
  isBad?: boolean
}

const STREAMS = ['live', 'backfill']
const LANES = 2
const dids = Array.from({ length: 12 }, (_, i) => `did:web:a${i}.test`)
const codec = {
  encode: (note: Note) => ({ event: JSON.stringify(note) }),
  decode: ({ event }: Record<string, string>) => JSON.parse(event!) as Note,
}

/**
 * Consumers of both streams in the same lanes, as an indexer has them; a bad event is refused, then the rest is worked
 * on.
 */
async function startBoth(redisUrl: string, stop: AbortSignal) {
  await using opened = new AsyncDisposableStack()
  const connect = async (name: string): Promise<Redis> =>
    opened.adopt(await connectRedis({ url: redisUrl, name }), (client) => client.destroy())
  const redis = await connect('commands')
  const readers = await Promise.all(STREAMS.map(connect))
  const precedence = new Precedence(STREAMS.length, LANES, 1 / 16)
  const processTurns = new Turns()
  const acked: string[] = []
  const troubles: string[] = []
  const inWork = new Set<string>()
  let sideBySide = 0
  const work = async (stream: string, batch: Batch<Note>): Promise<void> => {
    const { events } = batch
    for (const note of events) if (note.isBad) await batch.refuse(note, { reason: 'constraint', message: 'bad' })
    const own = new Set(events.map(({ did }) => did))
    sideBySide += [...own].filter((did) => inWork.has(did)).length
    for (const did of own) inWork.add(did)
    await new Promise((resolve) => setTimeout(resolve, 1))
    for (const did of own) inWork.delete(did)
    await batch.ack()
    acked.push(...events.flatMap(({ n, isBad }) => (isBad ? [] : [`${stream} ${n}`])))
  }
  const runs = STREAMS.map(async (stream, i) => {
    const consumer = new Consumer<Note>({
      redis,
      reader: readers[i]!,
      address: { stream, group: 'g', consumer: 'one' },
      codec,
      key: ({ did }) => did,
      limits: { deadLetters: 1, blockMs: 50 },
      backoff: { baseMs: 10, capMs: 50, healthyAfterMs: 1_000 },
      batchShare: () => precedence.batchShare(i),
      turn: (lane) => precedence.turn(lane),
      processTurns,
      observer: { read: () => precedence.read(i), trouble: ({ message }) => void troubles.push(message) },
    })
    await consumer.run(stop, LANES, async (batches) => {
      for await (const batch of batches) await work(stream, batch)
    })
  })
  const connections = opened.move()
  const ended = closedAfter(runs, connections)
  ended.catch(() => {})
  const add = async (stream: string, notes: readonly Note[]) =>
    Promise.all(notes.map(async (note) => redis.xAdd(stream, '*', codec.encode(note))))
  return { redis, acked, troubles, ended, add, sideBySide: () => sideBySide }
}

async function closedAfter(runs: readonly Promise<void>[], connections: AsyncDisposable): Promise<void> {
  await using _ = connections
  await Promise.all(runs)
}

const poll = { timeout: 15_000, interval: 20 }

/** Redis counts this many deliveries of what is pending: from the fourth on an entry is worked on alone. */
async function suspectAll(redis: Redis, stream: string): Promise<void> {
  await redis.xGroupCreate(stream, 'g', '0')
  await redis.xReadGroup('g', 'one', { key: stream, id: '>' })
  const ids = (await redis.xPendingRange(stream, 'g', '-', '+', 1_000)).map(({ id }) => id)
  await redis.xClaim(stream, 'g', 'one', 0, ids, { RETRYCOUNT: 5 })
}

test.for(['together', 'alone'])(
  'while a backfill waits because its dead letters are full (entries handed out %s), live events are applied',
  async (handedOut, { redisUrl }) => {
    const stop = new AbortController()
    const bad = [...dids, ...dids].map((did, n): Note => ({ n, did, isBad: n % 2 === 0 }))
    const before = await connectRedis({ url: redisUrl, name: 'before' })
    for (const note of bad) await before.xAdd('backfill', '*', codec.encode(note))
    if (handedOut === 'alone') await suspectAll(before, 'backfill')
    before.destroy()
    const it = await startBoth(redisUrl, stop.signal)
    try {
      await expect.poll(() => it.troubles.join(), poll).toContain('backfill_dlq is full')
      const live = dids.map((did, n): Note => ({ n, did }))
      await it.add('live', live)
      await expect.poll(() => it.acked.filter((one) => one.startsWith('live')).length, poll).toBe(dids.length)
      expect(await it.redis.xLen('live')).toBe(0)
      expect(await it.redis.xLen('backfill')).toBeGreaterThan(0)

      const backfilled = async (): Promise<number> => {
        await dropDeadLetters(it.redis, 'backfill', 'all')
        return await it.redis.xLen('backfill')
      }
      await it.add('live', live)
      await expect.poll(backfilled, { ...poll, timeout: 30_000 }).toBe(0)
      expect(it.acked.filter((one) => one.startsWith('backfill')).length).toBe(bad.length / 2)
      expect(it.sideBySide(), 'of one account').toBe(0)
    } finally {
      stop.abort()
      await it.ended
    }
  },
)
