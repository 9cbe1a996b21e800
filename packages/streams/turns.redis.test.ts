import { TransientError } from '@sluice/runtime/errors.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import type { Batch } from './consumer.ts'
import { eventsFrom, type TestEvent } from './testing/events.ts'
import { ackAll, address, never, suspect, test, type TestConsumerOptions } from './testing/fixtures.ts'
import { Turns } from './turns.ts'

test('consumers whose lanes take turns do not work on one key side by side, and one that fails gives its turn back', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const lanes = [new Turns(), new Turns()]
  const turn = (lane: number): Promise<Disposable> => lanes[lane]!.enter('exclusive')
  const inWork = new Set<string>()
  let sideBySide = 0
  const work = async ({ events }: Batch<TestEvent>): Promise<void> => {
    const keys = new Set(events.map(({ key }) => key))
    expect([...keys].filter((key) => inWork.has(key))).toEqual([])
    for (const key of keys) inWork.add(key)
    sideBySide = Math.max(sideBySide, inWork.size - keys.size)
    await new Promise((resolve) => setTimeout(resolve, 1))
    for (const key of keys) inWork.delete(key)
  }
  const consume = async (name: string, acked: number[], before: (batch: Batch<TestEvent>) => Promise<void>) => {
    await tools.producer(redis, { stream: name }).append(eventsFrom(0, 200, 13), never)
    const options = { redis, reader: await tools.connect(redisUrl), address: { ...address, stream: name } }
    return tools.consume({ ...options, limits: { batchEvents: 10 }, turn }, ackAll(acked, before), 2)
  }
  const failing = await consume('failing', [], async (batch) => {
    await work(batch)
    throw new TransientError('no database')
  })
  const [live, backfill]: [number[], number[]] = [[], []]
  await consume('live', live, work)
  await consume('backfill', backfill, work)
  await expect(failing.ended).rejects.toThrow('no database')
  await expect.poll(() => [live.length, backfill.length], { timeout: 10_000 }).toEqual([200, 200])
  expect(sideBySide).toBeGreaterThan(0)
})

/** Streams of one process: those that have the same number of lanes take turns in them, too. */
function processOf(lanes: number): Pick<TestConsumerOptions, 'turn' | 'processTurns'> {
  const laneTurns = Array.from({ length: lanes }, () => new Turns())
  return { turn: (lane) => laneTurns[lane]!.enter('exclusive'), processTurns: new Turns() }
}

test('a suspect has no batch of another stream beside it, whoever waits for what meanwhile, and all come to their end', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const shared = processOf(2)
  const inWork = new Set<Batch<TestEvent>>()
  let [alone, together] = [0, 0]
  const work = async (batch: Batch<TestEvent>): Promise<void> => {
    inWork.add(batch)
    const beside = [...inWork].filter((other) => other !== batch)
    if ([...inWork].some(({ deliveries }) => deliveries > 1)) {
      expect(beside).toEqual([])
      alone += 1
    } else together += beside.length
    await new Promise((resolve) => setTimeout(resolve, 1))
    inWork.delete(batch)
  }
  const streams = ['live', 'backfill', 'label']
  const acked = await Promise.all(
    streams.map(async (stream) => {
      const done: number[] = []
      await tools.producer(redis, { stream }).append(eventsFrom(0, 200, 13), never)
      await suspect(redis, stream, 20)
      const options = { redis, reader: await tools.connect(redisUrl), address: { ...address, stream } }
      const inTurn = stream === 'label' ? { processTurns: shared.processTurns! } : shared
      tools.consume(
        { ...options, limits: { batchEvents: 10 }, ...inTurn },
        ackAll(done, async (batch) => {
          await work(batch)
          await batch.yieldTurn(async () => new Promise((resolve) => setTimeout(resolve, 2)))
          await work(batch)
        }),
        2,
      )
      return done
    }),
  )
  await expect.poll(() => acked.map(({ length }) => length), { timeout: 20_000 }).toEqual([200, 200, 200])
  expect(alone).toBe(2 * 3 * 20)
  expect(together).toBeGreaterThan(0)
})

test.for(['a suspect', 'its neighbour'])(
  'while %s waits for the world other streams go on, and the wait is held against nobody',
  async (who, { redisUrl, tools }) => {
    const redis = await tools.connect(redisUrl)
    const { promise: mended, resolve: mend } = Promise.withResolvers<void>()
    const shared = processOf(1)
    const start = async (stream: string, before?: (batch: Batch<TestEvent>) => Promise<void>) => {
      const acked: number[] = []
      const options = { redis, reader: await tools.connect(redisUrl), address: { ...address, stream } }
      tools.consume({ ...options, ...shared }, ackAll(acked, before), 1)
      return acked
    }
    for (const stream of ['waiting', 'other']) await tools.producer(redis, { stream }).append(eventsFrom(0, 5), never)
    await suspect(redis, who === 'a suspect' ? 'waiting' : 'other', 5)
    let waits = 0
    const waiting = await start('waiting', async (batch) => {
      waits += 1
      await batch.yieldTurn(async () => mended)
    })
    try {
      await expect.poll(() => waits).toBe(1)
      const other = await start('other')
      await expect.poll(() => other.length, { timeout: 5_000 }).toBe(5)
      expect(waiting).toEqual([])
      expect(await redis.keys('*:suspects:*')).toEqual([])
    } finally {
      mend()
    }
    await expect.poll(() => waiting.length, { timeout: 5_000 }).toBe(5)
  },
)
