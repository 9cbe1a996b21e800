/** B2: the limits of a host hold for all backfillers together, since they are in Redis. */
import { FatalError } from '@sluice/runtime/errors.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import type { HostLimits } from './host-rules.ts'
import { HostTally } from './host-tally.ts'
import { PdsLimits, type Permit } from './pds-limits.ts'

const HOST = 'pds.example'
const GENEROUS: HostLimits = { concurrency: 1_000, perSecond: 10_000, burst: 10_000 }

const test = base.extend('redis', async ({ redisUrl }, { onCleanup }): Promise<Redis> => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  onCleanup(() => redis.destroy())
  return redis
})

/** Two processes that share the limits. */
function two(redis: Redis, limits: Partial<HostLimits>, leaseMs?: number): [PdsLimits, PdsLimits] {
  const options = { redis, stream: 's', limitsOf: () => ({ ...GENEROUS, ...limits }), ...(leaseMs && { leaseMs }) }
  return [new PdsLimits(options), new PdsLimits(options)]
}

/** Asks both in turn until nothing is granted any more. */
async function askAll([one, another]: readonly [PdsLimits, PdsLimits], times = 100): Promise<Permit[]> {
  const asked = await Promise.all(Array.from({ length: times }, (_, i) => (i % 2 ? one : another).ask(HOST)))
  return asked.flatMap(({ permit }) => permit ?? [])
}

test('no more requests are under way than a host may have, whoever makes them', async ({ redis }) => {
  const both = two(redis, { concurrency: 7 })
  const permits = await askAll(both)
  expect(permits).toHaveLength(7)
  expect(await both[0].ask(HOST)).toMatchObject({ why: 'busy' })
  await permits[0]!.release({ verdict: 'ok' })
  await permits[0]!.release({ verdict: 'ok' })
  expect(await askAll(both)).toHaveLength(1)
  expect((await both[0].ask('other.example')).permit).toBeDefined()
})

test('no more requests are sent in a time than a host allows, whoever sends them', async ({ redis }) => {
  const both = two(redis, { perSecond: 0.001, burst: 5 })
  const permits = await askAll(both)
  expect(permits).toHaveLength(5)
  await Promise.all(permits.map((permit) => permit.release({ verdict: 'ok' })))
  const refused = await both[1].ask(HOST)
  expect(refused).toMatchObject({ why: 'rate' })
  expect('waitMs' in refused && refused.waitMs).toBeGreaterThan(900_000)
})

test('a host that asked to be left alone is left alone by all for so long', async ({ redis }) => {
  const [one, another] = two(redis, {})
  const { permit } = await one.ask(HOST)
  await permit!.release({ verdict: 'ok', parkMs: 60_000 })
  const refused = await another.ask(HOST)
  expect(refused).toMatchObject({ why: 'parked' })
  expect('waitMs' in refused && refused.waitMs).toBeGreaterThan(55_000)
})

test('what the host says is left is all that is asked, by all together', async ({ redis }) => {
  const both = two(redis, {})
  const { permit } = await both[0].ask(HOST)
  await both[0].observe(HOST, { remaining: 3, resetMs: 60_000 })
  await permit!.release({ verdict: 'ok' })
  expect(await askAll(both)).toHaveLength(3)
  expect(await both[1].ask(HOST)).toMatchObject({ why: 'stated' })
})

test('a host that says more is left than anybody can count is asked all the same, and its next word counts', async ({
  redis,
}) => {
  const both = two(redis, {})
  for (const remaining of [2 ** 64, Infinity]) {
    await both[0].observe(HOST, { remaining, resetMs: 60_000 })
    const permits = await askAll(both, 4)
    expect(permits).toHaveLength(4)
    await Promise.all(permits.map((permit) => permit.release({ verdict: 'ok' })))
  }
  await both[0].observe(HOST, { remaining: 2, resetMs: 60_000 })
  expect(await askAll(both, 4)).toHaveLength(2)
})

test('a host that fails is parked, longer each time, asked by one at a time, and forgiven when it works', async ({
  redis,
}) => {
  const [one, another] = two(redis, {})
  const fail = async (): Promise<void> => (await one.ask(HOST)).permit!.release({ verdict: 'failed' })
  for (let i = 0; i < 3; i++) await fail()
  expect(await another.ask(HOST)).toMatchObject({ why: 'parked' })
  await redis.hSet('s:host:pds.example', 'parkedUntil', '0')
  const next = await another.ask(HOST)
  expect(next.permit).toBeDefined()
  expect(await one.ask(HOST)).toMatchObject({ why: 'busy' })
  await next.permit!.release({ verdict: 'failed' })
  const parked = await one.ask(HOST)
  expect('waitMs' in parked && parked.waitMs).toBeGreaterThan(1_000)
  await redis.hSet('s:host:pds.example', 'parkedUntil', '0')
  await (await one.ask(HOST)).permit!.release({ verdict: 'ok' })
  expect(await askAll([one, another], 20)).toHaveLength(20)
})

/** Asks when the park is over, and fails for a repository. Returns for how long the host is parked then. */
async function failFor([one, another]: readonly [PdsLimits, PdsLimits], redis: Redis, repo: string): Promise<number> {
  await redis.hSet('s:host:pds.example', 'parkedUntil', '0')
  await (await one.ask(HOST)).permit!.release({ verdict: 'failed', repo })
  const asked = await another.ask(HOST)
  await asked.permit?.release({ verdict: 'nothing' })
  return asked.permit ? 0 : asked.waitMs
}

function expectBetween([above, most]: [number, number], ms: number): void {
  expect(ms).toBeGreaterThan(above)
  expect(ms).toBeLessThanOrEqual(most)
}

test('a repository that fails time and again counts once against its host: others need not wait for longer and longer', async ({
  redis,
}) => {
  const both = two(redis, {})
  const fail = (repo: string): Promise<number> => failFor(both, redis, repo)
  const [one, another, third] = ['did:plc:broken', 'did:plc:lost', 'did:web:gone.example'] as const
  for (let i = 0; i < 6; i++) expect([await fail(one), await fail(another)]).toEqual([0, 0])
  // Each time for as long as at first: of a dead host's few repositories not all are asked for at once.
  for (let i = 0; i < 4; i++) for (const repo of [third, one, another]) expectBetween([0, 1_000], await fail(repo))
  // What another's name begins with is a fourth.
  for (const repo of ['did:plc:broke', one]) expectBetween([1_000, 2_000], await fail(repo))
})

test('a host that fails for one repository after the other is parked for long, and remembers no more of them than lengthen that', async ({
  redis,
}) => {
  const both = two(redis, {})
  for (let i = 0; i < 10; i++) await failFor(both, redis, `did:plc:${i}`)
  expectBetween([100_000, 128_000], await failFor(both, redis, 'did:plc:0'))
  for (let i = 10; i < 40; i++) await failFor(both, redis, `did:plc:${i}`)
  for (const repo of ['did:plc:39', 'did:plc:40', 'did:plc:0'])
    expectBetween([550_000, 600_000], await failFor(both, redis, repo))
  expect((await redis.hGet('s:host:pds.example', 'failing'))?.split(' ')).toHaveLength(13)
})

test('when the host has worked, repositories that failed before count again', async ({ redis }) => {
  const both = two(redis, {})
  const repos = ['did:plc:one', 'did:plc:two', 'did:plc:three']
  const failAll = async (): Promise<number[]> => {
    const parked: number[] = []
    for (const repo of repos) parked.push(await failFor(both, redis, repo), await failFor(both, redis, repo))
    return parked.map((ms) => Math.ceil(ms / 1_000))
  }
  expect(await failAll()).toEqual([0, 0, 0, 0, 1, 1])
  await redis.hSet('s:host:pds.example', 'parkedUntil', '0')
  await (await both[0].ask(HOST)).permit!.release({ verdict: 'ok' })
  expect(await askAll(both, 20)).toHaveLength(20)
  await redis.del('s:slots:pds.example')
  expect(await failAll()).toEqual([0, 0, 0, 0, 1, 1])
  // As a version does that counts every failure.
  await redis.hDel('s:host:pds.example', 'failures')
  expect(await failAll()).toEqual([0, 0, 0, 0, 1, 1])
})

test('permits of a process that died run out, those of one that lives do not', async ({ redis }) => {
  const [alive, dead] = two(redis, { concurrency: 2 }, 1_500)
  const kept = (await alive.ask(HOST)).permit!
  expect((await dead.ask(HOST)).permit).toBeDefined()
  const third = two(redis, { concurrency: 2 })[0]
  expect(await third.ask(HOST)).toMatchObject({ why: 'busy' })
  const granted = async (): Promise<boolean> => {
    await alive.renew()
    return (await third.ask(HOST)).permit !== undefined
  }
  await expect.poll(granted, { timeout: 10_000, interval: 50 }).toBe(true)
  await alive.renew()
  expect(await third.ask(HOST)).toMatchObject({ why: 'busy' })
  await kept.release({ verdict: 'ok' })
  expect((await third.ask(HOST)).permit).toBeDefined()
})

test('while Redis is away nothing is allowed, and nothing throws', async ({ redisUrl }) => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  const [one] = two(redis, {})
  redis.destroy()
  expect(await one.ask(HOST)).toMatchObject({ why: 'redis' })
})

test('a Redis that will never understand us is no Redis that is away', async ({ redis }) => {
  const [one] = two(redis, {})
  await redis.set('s:host:pds.example', 'of another program')
  await expect(one.ask(HOST)).rejects.toThrow(FatalError)
})

test('a time further ahead than a host may be closed is not believed, whoever stored it', async ({ redis }) => {
  const both = two(redis, {})
  const far = String(Date.now() + 1_000 * 86_400_000)
  const stored: Record<string, string>[] = [{ parkedUntil: far }, { left: '0', leftUntil: far }]
  for (const closed of stored) {
    await redis.del(['s:host:pds.example', 's:slots:pds.example'])
    await redis.hSet('s:host:pds.example', closed)
    expect(await askAll(both, 2)).toHaveLength(2)
  }
  // Nor is what the host says now measured by it. One of the two may not be in its count yet.
  await both[0].observe(HOST, { remaining: 5, resetMs: 60_000 })
  expect(await askAll(both)).toHaveLength(4)
})

test('no host closes for longer than is believed, whatever it asks for', async ({ redis }) => {
  const [one] = two(redis, {})
  const { permit } = await one.ask(HOST)
  await one.observe(HOST, { remaining: 0, resetMs: 1e12 })
  const stated = await one.ask(HOST)
  await permit!.release({ verdict: 'ok', parkMs: 1e12 })
  const parked = await one.ask(HOST)
  expect([stated, parked]).toMatchObject([{ why: 'stated' }, { why: 'parked' }])
  for (const asked of [stated, parked]) expect('waitMs' in asked && asked.waitMs).toBeLessThanOrEqual(600_000)
})

test('when the clock of Redis goes back, nobody waits until it is again what it was', async ({ redis }) => {
  const [one] = two(redis, { perSecond: 100, burst: 100 })
  const later = String(Date.now() + 3_600_000)
  await redis.hSet('s:host:pds.example', { tokens: '5', at: later })
  expect((await one.ask(HOST)).permit).toBeDefined()
  await redis.hSet('s:host:pds.example', { tokens: '0', at: later })
  expect(await one.ask(HOST)).toMatchObject({ why: 'rate', waitMs: 10 })
  await expect.poll(async () => (await one.ask(HOST)).permit).toBeDefined()
})

test('a host is forgotten in time: soon when no repository was fetched from it, and never while it is closed', async ({
  redis,
}) => {
  const [DAY_MS, CLOSED_MS] = [86_400_000, 600_000]
  const [one] = two(redis, {})
  const key = 's:host:pds.example'
  const { permit } = await one.ask(HOST)
  expect(await redis.pTTL(key)).toBeGreaterThan(CLOSED_MS)
  expect(await redis.pTTL(key)).toBeLessThan(DAY_MS)
  // A fetch may take longer.
  await redis.del(key)
  await permit!.release({ verdict: 'ok', parkMs: CLOSED_MS })
  expect(await one.ask(HOST)).toMatchObject({ why: 'parked' })
  expect(await redis.pTTL(key)).toBeGreaterThan(CLOSED_MS)
  expect(await redis.pTTL(key)).toBeLessThan(DAY_MS)
  await redis.hSet(key, 'parkedUntil', '0')
  new HostTally(redis, 's').count(HOST, 'failed')
  await expect.poll(() => redis.pTTL(key)).toBeGreaterThan(7 * DAY_MS)
  await redis.pExpire(key, CLOSED_MS)
  expect((await one.ask(HOST)).permit).toBeDefined()
  expect(await redis.pTTL(key)).toBeGreaterThan(7 * DAY_MS)
  // Something waits for another host's turn, and none of its repositories was fetched so far.
  await redis.pExpire('s:host:other.example', 1)
  await redis.hSet('s:host:other.example', 'turn', '1')
  await redis.pExpire('s:host:other.example', 7 * DAY_MS)
  expect((await one.ask('other.example')).permit).toBeDefined()
  expect(await redis.pTTL('s:host:other.example')).toBeGreaterThan(6 * DAY_MS)
})

test('it is known since when a host has given no other answer than 429, whoever asked it', async ({ redis }) => {
  const [one, another] = two(redis, {})
  const answer = async (verdict: 'ok' | 'limited' | 'failed'): Promise<void> => {
    await redis.hDel('s:host:pds.example', 'parkedUntil')
    await (await one.ask(HOST)).permit!.release({ verdict })
  }
  await answer('ok')
  expect(await another.limitedMs(HOST)).toBe(0)
  await answer('limited')
  const since = (await redis.hGet('s:host:pds.example', 'limitedSince'))!
  await redis.hSet('s:host:pds.example', 'limitedSince', Number(since) - 3_600_000)
  await answer('limited')
  // No answer is none.
  await answer('failed')
  expect(await another.limitedMs(HOST)).toBeGreaterThanOrEqual(3_600_000)
  await answer('ok')
  expect(await another.limitedMs(HOST)).toBe(0)
  await redis.hSet('s:host:pds.example', 'limitedSince', Number(since) + 3_600_000)
  expect(await another.limitedMs(HOST), 'the clock has gone back').toBe(0)
})

test('the list of hosts is as long as what is known of them is kept', async ({ redis }) => {
  const [longAgo, lately] = [31, 29].map((days) => Date.now() - days * 86_400_000) as [number, number]
  await redis.zAdd('s:hosts', [
    { score: longAgo, value: 'gone.example' },
    { score: lately, value: 'quiet.example' },
  ])
  new HostTally(redis, 's').count(HOST, 'done')
  await expect.poll(() => redis.zRange('s:hosts', 0, -1)).toEqual(['quiet.example', 'pds.example'])
})

test('one good answer every few days does not hide that a host answers 429 for days; many do', async ({ redis }) => {
  const [one] = two(redis, {})
  const answer = async (verdict: 'ok' | 'limited'): Promise<void> => {
    const { permit } = await one.ask(HOST)
    await permit!.release({ verdict })
  }
  const HOUR_MS = 3_600_000
  const hours = async (): Promise<number> => Math.round((await one.limitedMs(HOST)) / HOUR_MS)
  const pass = async (hours: number): Promise<void> => {
    const since = Number(await redis.hGet('s:host:pds.example', 'limitedSince'))
    await redis.hSet('s:host:pds.example', 'limitedSince', since - hours * HOUR_MS)
  }
  await answer('limited')
  const counts: number[] = []
  for (let i = 0; i < 4; i++) {
    await pass(72)
    counts.push(await hours())
    await answer('ok')
    await answer('limited')
    counts.push(await hours())
  }
  // Once it is four days, it is so again six hours after such an answer.
  expect(counts).toEqual([72, 66, 138, 90, 162, 90, 162, 90])
  for (let i = 0; i < 16; i++) await answer('ok')
  expect(await redis.hExists('s:host:pds.example', 'limitedSince')).toBe(0)
})
