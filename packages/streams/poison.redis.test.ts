import { DefectError, FatalError } from '@sluice/runtime/errors.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { listDeadLetters } from './testing/list-letters.ts'
import { Suspects } from './suspects.ts'
import { eventsFrom, numbers, sorted, type TestEvent } from './testing/events.ts'
import { address, never, suspect, test } from './testing/fixtures.ts'
import { processed, startConsumerProcess } from './testing/processes.ts'

const { stream, group } = address

/** Starts the process again whenever it ended, as a supervisor would. Returns how often it did. */
async function keepRunning(
  start: () => ReturnType<typeof startConsumerProcess>,
  isDone: () => Promise<boolean>,
): Promise<number> {
  for (let deaths = 0; ; deaths++) {
    const process = await start()
    while (process.isRunning) {
      if (await isDone()) {
        await process.stop()
        return deaths
      }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    if (deaths > 20) throw process.error(`died ${deaths} times`)
  }
}

test.for(['kill', 'throw'] as const)(
  'an entry that ends the process (%s) is found, alone becomes a dead letter, and all its neighbours are processed',
  { timeout: 120_000 },
  async (deed, { redisUrl, tools }) => {
    const redis = await tools.connect(redisUrl)
    const events = eventsFrom(0, 60).map((event) => (event.n === 31 ? { ...event, key: 'guilty', deed } : event))
    await tools.producer(redis).append(events, never)
    const start = () => startConsumerProcess({ url: redisUrl, consumer: 'one', limits: { leaseMs: 150 } })
    const deaths = await keepRunning(start, async () => (await redis.xLen(stream)) === 0)
    expect(Number(await redis.hGet('deaths', 'guilty'))).toBe(deaths)
    expect(deaths).toBeGreaterThanOrEqual(4)
    const done = new Set((await processed(redis)).map(({ n }) => n))
    expect(sorted(done)).toEqual(numbers(60).filter((n) => n !== 31))
    const letters = await listDeadLetters(redis, stream, 100)
    expect(letters.map(({ reason, fields }) => [reason, JSON.parse(fields.event!)])).toEqual([
      ['crash-loop', events[31]],
    ])
    expect(letters[0]!.attempts).toBeGreaterThanOrEqual(4)
    expect(await redis.exists(`${stream}:suspects:${group}`)).toBe(0)
  },
)

test(
  'an entry that ends the process takes no entry of another stream of that process with it',
  { timeout: 120_000 },
  async ({ redisUrl, tools }) => {
    const redis = await tools.connect(redisUrl)
    const streams = ['guilty', 'innocent']
    const [guilty, ...others] = eventsFrom(0, 10)
    // Long enough to be in work at every death.
    const slow = { key: 'slow', n: 10, deed: 'slow' } as const
    await tools.producer(redis, { stream: 'guilty' }).append([{ ...guilty!, deed: 'kill' }, ...others], never)
    await tools.producer(redis, { stream: 'innocent' }).append([slow, ...eventsFrom(11, 9)], never)
    const start = () => startConsumerProcess({ url: redisUrl, consumer: 'one', streams, limits: { leaseMs: 150 } })
    const depths = () => Promise.all(streams.map((one) => redis.xLen(one)))
    await keepRunning(start, async () => Math.max(...(await depths())) === 0)
    const letters = await Promise.all(streams.map((one) => listDeadLetters(redis, one, 100)))
    expect(letters.map((list) => list.map(({ reason }) => reason))).toEqual([['crash-loop'], []])
    const done = new Set((await processed(redis)).map(({ n }) => n))
    expect(sorted(done)).toEqual(numbers(19, 1))
  },
)

test('restarts during an outage convict nobody: whoever lives on with a suspect clears it', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const marks = () => redis.hGetAll(`${stream}:suspects:${group}`)
  // These do not live on.
  for (let death = 0; death < 3; death++) {
    expect(await new Suspects(redis, address, 3_600_000).mayTry({ id: '1-1' })).toBe(true)
  }
  expect(await marks()).toEqual({ '1-1': '3' })
  for (let restart = 0; restart < 10; restart++) {
    expect(await new Suspects(redis, address, 10).mayTry({ id: '1-2' })).toBe(true)
    await expect.poll(marks, { timeout: 5_000 }).toEqual({ '1-1': '3' })
  }
  expect(await new Suspects(redis, address, 3_600_000).mayTry({ id: '1-1' })).toBe(false)
})

test('who is guilty stays so until it is buried, however often the process is stopped while it waits for that', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const start = () => new Suspects(redis, address, 3_600_000)
  const entry = { id: '1-1' }
  for (let death = 0; death < 3; death++) expect(await start().mayTry(entry)).toBe(true)
  for (let stop = 0; stop < 3; stop++) {
    const suspects = start()
    expect(await suspects.mayTry(entry)).toBe(false)
    await suspects.clear()
  }
  await start().forget(entry)
  expect(await start().mayTry(entry)).toBe(true)
})

test('starts that end in a fatal error convict nobody, unless one entry may have brought it out', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const reader = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 20), never)
  const letters = async () =>
    (await listDeadLetters(redis, stream, 100)).map(({ fields }) => (JSON.parse(fields.event!) as TestEvent).n)
  const done = new Set<number>()
  let ends = 0
  const start = async (work: (event: TestEvent) => void): Promise<void> => {
    const one = tools.consume({ redis, reader }, async (lane) => {
      for await (const batch of lane) {
        for (const event of batch.events) work(event)
        await batch.ack()
        for (const { n } of batch.events) done.add(n)
        if ((await redis.xLen(stream)) === 0) void one.stop()
      }
    })
    await one.ended.catch(() => (ends += 1))
  }
  for (let i = 0; i < 20; i++) {
    await start(() => {
      throw new FatalError('permission denied for table record (42501)')
    })
  }
  expect([ends, await letters(), await redis.xLen(stream)]).toEqual([20, [], 20])
  expect(await redis.exists(`${stream}:suspects:${group}`)).toBe(0)

  for (let i = 0; i < 20 && (await redis.xLen(stream)) > 0; i++) {
    await start(({ n }) => {
      if (n === 7) throw new DefectError('a statement that the data of this one made wrong')
    })
  }
  expect(await letters()).toEqual([7])
  expect(sorted(done)).toEqual(numbers(20).filter((n) => n !== 7))
})

test('a suspect is worked on with nothing beside it', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 50), never)
  await suspect(redis, stream, 10)
  let inWork = 0
  const batches: { size: number; deliveries: number; beside: number }[] = []
  tools.consume(
    { redis, reader: await tools.connect(redisUrl), limits: { lingerMs: 2 } },
    async (lane) => {
      for await (const batch of lane) {
        batches.push({ size: batch.events.length, deliveries: batch.deliveries, beside: inWork })
        inWork += 1
        await new Promise((resolve) => setTimeout(resolve, 2))
        inWork -= 1
        await batch.ack()
      }
    },
    4,
  )
  await expect.poll(() => redis.xLen(stream), { timeout: 10_000 }).toBe(0)
  const alone = batches.filter(({ deliveries }) => deliveries > 1)
  expect(alone.length).toBe(10)
  expect(alone.every(({ size, beside }) => size === 1 && beside === 0)).toBe(true)
  expect(await redis.exists(`${stream}:suspects:${group}`)).toBe(0)
})
