/** What `sluice pending reclaim` hands over: what the dead hold, all of it or that of one, to a living consumer. */
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { ensureGroup, readNew } from '@sluice/streams/entries.ts'
import { Lease } from '@sluice/streams/lease.ts'
import { runCli } from './testing/run.ts'

const STREAM = 'firehose_live'
const GROUP = 'firehose_group'
/** More than are handed over at once. */
const MANY = 1_200

/** By consumer, the ids of what it holds. */
async function held(redis: Redis): Promise<Record<string, string[]>> {
  const rows = await redis.xPendingRange(STREAM, GROUP, '-', '+', 10_000)
  const holders = Object.entries(Object.groupBy(rows, ({ consumer }) => consumer))
  return Object.fromEntries(holders.map(([consumer, entries]) => [consumer, entries!.map(({ id }) => id)]))
}

/** Two living consumers, two dead ones that hold entries, and a dead one that holds none. */
async function world(redisUrl: string) {
  const stack = new AsyncDisposableStack()
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const address = (consumer: string) => ({ stream: STREAM, group: GROUP, consumer })
  await ensureGroup(redis, address('alive'))
  await redis.xGroupCreateConsumer(STREAM, GROUP, 'dead-empty')
  await Promise.all(Array.from({ length: MANY + 10 }, () => redis.xAdd(STREAM, '*', { event: '{}' })))
  for (const [consumer, count] of [
    ['alive', 3],
    ['busy', 5],
    ['dead-one', MANY],
    ['dead-two', 2],
  ] as const)
    expect(await readNew(redis, address(consumer), count, 10)).toHaveLength(count)
  const { signal } = new AbortController()
  for (const consumer of ['alive', 'busy']) {
    const lease = new Lease({ redis, ...address(consumer), ttlMs: 600_000, signal })
    await lease.take()
    stack.defer(() => lease.release())
  }
  const reclaim = async (...args: string[]): Promise<unknown> => {
    const said = await runCli(['pending', 'reclaim', STREAM, '--json', ...args], { REDIS_URL: redisUrl })
    return said.code === 0 ? JSON.parse(said.stdout) : said
  }
  return { redis, reclaim, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

test('D4 one dead consumer that is named gives up what it holds, and the others keep theirs', async ({ redisUrl }) => {
  await using at = await world(redisUrl)
  const { redis, reclaim } = at
  const before = await held(redis)
  const said = (await reclaim('--consumer', 'dead-two')) as { to: 'alive' | 'busy' }
  expect(said).toMatchObject({ stream: STREAM, group: GROUP, reclaimed: 2, from: ['dead-two'] })
  expect(['alive', 'busy']).toContain(said.to)
  const { 'dead-two': given, ...others } = before
  expect(await held(redis)).toEqual({ ...others, [said.to]: [...others[said.to]!, ...given!] })
  // Once more, and of one that holds nothing, there is nothing to do.
  for (const consumer of ['dead-two', 'dead-empty', 'nobody'])
    expect(await reclaim('--consumer', consumer)).toEqual({ stream: STREAM, group: GROUP, reclaimed: 0 })
  expect((await held(redis))['dead-one']).toEqual(before['dead-one'])
})

test('D4 without a name all dead consumers give up all that they hold, and the living keep theirs', async ({
  redisUrl,
}) => {
  await using at = await world(redisUrl)
  const { redis, reclaim } = at
  const before = await held(redis)
  const said = (await reclaim()) as { from: string[]; to: 'alive' | 'busy' }
  expect(said).toMatchObject({ reclaimed: MANY + 2 })
  expect(said.from.toSorted()).toEqual(['dead-one', 'dead-two'])
  const after = await held(redis)
  const { 'dead-one': one, 'dead-two': two, ...living } = before
  expect(after).toEqual({ ...living, [said.to]: [...living[said.to]!, ...one!, ...two!] })
  // No delivery, and so long ago that any consumer sees that nobody works on it.
  const [moved] = await redis.xPendingRange(STREAM, GROUP, one![0]!, one![0]!, 1)
  expect(moved).toMatchObject({ consumer: said.to, deliveriesCounter: 1 })
  expect(moved!.millisecondsSinceLastDelivery).toBeGreaterThanOrEqual(3_600_000)
})

test('D4 a living consumer that is named keeps what it holds, though others are dead', async ({ redisUrl }) => {
  await using at = await world(redisUrl)
  const { redis, reclaim } = at
  const before = await held(redis)
  expect(await reclaim('--consumer', 'busy')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('stop that process first') as string,
  })
  expect(await held(redis)).toEqual(before)
})
