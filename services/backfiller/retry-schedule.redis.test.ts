/** B2: entries that wait are in Redis: in their stream or in the schedule, never in both and never in neither. */
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { describe } from 'vitest'
import { RetrySchedule } from './retry-schedule.ts'

const ADDRESS = { stream: 's', group: 'g', consumer: 'one' }
const SOON_MS = 50

const test = base.extend('redis', async ({ redisUrl }, { onCleanup }): Promise<Redis> => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  onCleanup(() => redis.destroy())
  await redis.xGroupCreate('s', 'g', '0', { MKSTREAM: true })
  return redis
})

const entryOf = (n: number): BackfillEvent => ({ did: `did:plc:${n}`, host: 'pds.example', rev: '' })

/** Adds entries and has them handed out; their ids. */
async function pending(redis: Redis, count: number): Promise<string[]> {
  for (let n = 0; n < count; n++) await redis.xAdd('s', '*', { repo: JSON.stringify(entryOf(n)) })
  await redis.sendCommand(['XREADGROUP', 'GROUP', 'g', 'one', 'COUNT', String(count), 'STREAMS', 's', '>'])
  const rows = await redis.xPendingRange('s', 'g', '-', '+', count)
  return rows.map(({ id }) => id)
}

async function state(redis: Redis) {
  const [queued, waiting, { pending }] = await Promise.all([
    redis.xLen('s'),
    redis.zCard('s:retry'),
    redis.xPending('s', 'g'),
  ])
  return { queued, waiting, pending }
}

test('a retry moves the entry out of its stream, and back when it is due, as it shall come back', async ({ redis }) => {
  const schedule = new RetrySchedule({ redis, entriesMax: 10 })
  const [id] = await pending(redis, 1)
  await schedule.retry(ADDRESS, id!, { ...entryOf(0), attempts: 1, failure: 'invalid' }, SOON_MS)
  expect(await state(redis)).toEqual({ queued: 0, waiting: 1, pending: 0 })

  // Another process, after a restart.
  const stop = new AbortController()
  const running = new RetrySchedule({ redis, entriesMax: 10 }).run('s', stop.signal, () => {})
  await expect.poll(() => state(redis), { timeout: 10_000 }).toEqual({ queued: 1, waiting: 0, pending: 0 })
  stop.abort()
  await running
  const [entry] = (await redis.xRange('s', '-', '+'))!
  expect(JSON.parse(entry!.message.repo!)).toEqual({ ...entryOf(0), attempts: 1, failure: 'invalid' })
})

test('what is not due stays, and several processes move each entry once', async ({ redis }) => {
  const schedule = new RetrySchedule({ redis, entriesMax: 1_000 })
  const ids = await pending(redis, 60)
  await Promise.all(ids.map((id, n) => schedule.retry(ADDRESS, id, entryOf(n), n < 40 ? SOON_MS : 3_600_000)))
  const stop = new AbortController()
  const running = [1, 2, 3].map(() => new RetrySchedule({ redis, entriesMax: 10 }).run('s', stop.signal, () => {}))
  await expect.poll(() => redis.zCard('s:retry'), { timeout: 10_000 }).toBe(20)
  stop.abort()
  await Promise.all(running)
  expect(await state(redis)).toEqual({ queued: 40, waiting: 20, pending: 0 })
  const dids = (await redis.xRange('s', '-', '+'))!.map(
    ({ message }) => (JSON.parse(message.repo!) as BackfillEvent).did,
  )
  expect(new Set(dids).size).toBe(40)
})

test('those that wait for one host get turns at its pace', async ({ redis }) => {
  const schedule = new RetrySchedule({ redis, entriesMax: 100 })
  const ids = await pending(redis, 5)
  const turn = { host: 'pds.example', delayMs: 10_000, intervalMs: 300 }
  for (const [n, id] of ids.entries()) expect(await schedule.defer(ADDRESS, id, entryOf(n), turn)).toBe(true)
  const due = (await redis.zRangeWithScores('s:retry', 0, -1)).map(({ score }) => score)
  for (let i = 1; i < due.length; i++) expect(due[i]! - due[i - 1]!).toBeGreaterThanOrEqual(300)
})

test('a turn, or a park, that an older version stored far ahead keeps nobody waiting', async ({ redis }) => {
  const schedule = new RetrySchedule({ redis, entriesMax: 100 })
  const ids = await pending(redis, 3)
  const farMs = Date.now() + 1_000 * 86_400_000
  await redis.hSet('s:host:pds.example', { turn: String(farMs), parkedUntil: String(farMs) })
  const turn = { host: 'pds.example', delayMs: 10_000, intervalMs: 300_000 }
  for (const [n, id] of ids.entries()) expect(await schedule.defer(ADDRESS, id, entryOf(n), turn)).toBe(true)
  const due = (await redis.zRangeWithScores('s:retry', 0, -1)).map(({ score }) => score)
  expect(due.at(-1)).toBeLessThan(farMs / 2 + Date.now() / 2)
  for (let i = 1; i < due.length; i++) expect(due[i]! - due[i - 1]!).toBeGreaterThanOrEqual(300_000)
})

describe('an account has one entry in the schedule', () => {
  const ENTRY = entryOf(7)
  const HOUR_MS = 3_600_000
  const turn = { host: 'pds.example', delayMs: 600_000, intervalMs: 1 }

  /** Has entries of one account handed out, each in its turn, and puts them off. */
  async function putOff(redis: Redis, acts: readonly ((id: string, schedule: RetrySchedule) => Promise<unknown>)[]) {
    const schedule = new RetrySchedule({ redis, entriesMax: 1 })
    for (const act of acts) await act((await pending(redis, 1))[0]!, schedule)
    const entries = await redis.zRangeWithScores('s:retry', 0, -1)
    expect(await redis.hGetAll('s:retry:dids')).toEqual({ [ENTRY.did]: entries[0]?.value })
    expect(await state(redis)).toEqual({ queued: 0, waiting: 1, pending: 0 })
    return { ...(JSON.parse(entries[0]!.value) as BackfillEvent), inMs: entries[0]!.score - Date.now() }
  }

  const failed = (entry: Partial<BackfillEvent>, delayMs: number) => (id: string, schedule: RetrySchedule) =>
    schedule.retry(ADDRESS, id, { ...ENTRY, ...entry }, delayMs)
  const deferred = (entry: Partial<BackfillEvent>) => async (id: string, schedule: RetrySchedule) =>
    expect(await schedule.defer(ADDRESS, id, { ...ENTRY, ...entry }, turn)).toBe(true)
  const LONG_FAILING = { attempts: 12, failure: 'unavailable', rev: '3kb', reason: 'gap' as const }

  test('asked for again and again while it fails, it keeps its failures and its long wait', async ({ redis }) => {
    const again = failed({ attempts: 1, failure: 'unavailable', rev: '3kc', reason: 'sweep' }, 30_000)
    const left = await putOff(redis, [failed(LONG_FAILING, 6 * HOUR_MS), again, again])
    expect(left).toMatchObject({ ...ENTRY, ...LONG_FAILING, rev: '3kc', reason: 'sweep' })
    expect(left.inMs).toBeGreaterThan(5 * HOUR_MS)
  })

  test('nor does it forget since when', async ({ redis }) => {
    const failingSince = Date.now() - 90 * HOUR_MS
    const before = { attempts: 2, failure: 'in-front', failingSince }
    const again = failed({ attempts: 1, failure: 'in-front', failingSince: Date.now() }, 30_000)
    expect(await putOff(redis, [failed(before, 6 * HOUR_MS), again, deferred({})])).toMatchObject(before)
  })

  test('of as many failures of both the longer time counts', async ({ redis }) => {
    const failingSince = Date.now() - 90 * HOUR_MS
    const of = (since: number) => failed({ attempts: 2, failure: 'in-front', failingSince: since }, HOUR_MS)
    expect(await putOff(redis, [of(failingSince), of(Date.now()), deferred({})])).toMatchObject({ failingSince })
  })

  test('nor what it failed by before: of each kind the most', async ({ redis }) => {
    const before = { attempts: 2, failure: 'invalid', earlier: { unavailable: 7, refused: 1 } }
    const again = failed({ attempts: 3, failure: 'unavailable', earlier: { refused: 3, stale: 1 } }, 30_000)
    const left = await putOff(redis, [failed(before, HOUR_MS), again])
    expect(left).toMatchObject({ attempts: 7, failure: 'unavailable', earlier: { invalid: 2, refused: 3, stale: 1 } })
    expect(left.inMs).toBeGreaterThan(HOUR_MS / 2)
  })

  test('though the one that came last has not failed', async ({ redis }) => {
    const before = { attempts: 2, failure: 'invalid', earlier: { unavailable: 7 } }
    expect(await putOff(redis, [failed(before, HOUR_MS), deferred({}), deferred({ rev: '3kc' })])).toMatchObject(before)
  })

  test('of what both want, all is kept: the later rev, and removals', async ({ redis }) => {
    const listed = failed({ attempts: 1, failure: 'invalid', rev: '3ka', reason: 'listed' }, 30_000)
    const left = await putOff(redis, [failed(LONG_FAILING, 6 * HOUR_MS), listed])
    expect(left).toMatchObject({ rev: '3kb', reason: 'gap', attempts: 1, failure: 'invalid' })
    expect(left).toMatchObject({ earlier: { unavailable: 12 } })
    expect(left.inMs).toBeLessThan(HOUR_MS)
  })

  test('what waits for a turn of its host joins what waits after a failure, though the schedule be full', async ({
    redis,
  }) => {
    const left = await putOff(redis, [failed(LONG_FAILING, 6 * HOUR_MS), deferred({ rev: '3kc' }), deferred({})])
    expect(left).toMatchObject({ ...LONG_FAILING, rev: '3kc' })
    expect(left.inMs).toBeLessThan(HOUR_MS)
  })

  test.for<[string, Partial<Record<keyof BackfillEvent, unknown>>]>([
    ['a text with half of a surrogate pair', { status: '\ud800' }],
    ['a rev that is none', { rev: null }],
    ['attempts that are no number', { attempts: '3', failure: 'unavailable' }],
    ['attempts beyond counting', { attempts: 1e300, failure: 'unavailable' }],
    ['a reason and a failure that are none', { reason: 7, failure: {} }],
    ['earlier failures that are none', { earlier: 7 }],
    ['earlier failures without end', { earlier: { unavailable: 1e300, invalid: 'x' } }],
  ])('an entry that Redis cannot read, or not understand, stops nobody: %s', async ([, odd], { redis }) => {
    const strange = odd as Partial<BackfillEvent>
    const left = await putOff(redis, [
      failed(strange, 30_000),
      failed(LONG_FAILING, 6 * HOUR_MS),
      deferred(strange),
      failed(LONG_FAILING, 6 * HOUR_MS),
    ])
    expect(left).toMatchObject({ ...ENTRY, ...LONG_FAILING })
  })

  test('entries that an older version left, without an index, become one at their next failure', async ({ redis }) => {
    for (const attempts of [12, 3])
      await redis.zAdd('s:retry', { score: 1, value: JSON.stringify({ ...ENTRY, attempts, failure: 'unavailable' }) })
    await redis.zAdd('s:retry', { score: 1, value: 'not ours' })
    await redis.hSet('s:retry:dids', ENTRY.did, 'an entry that is gone')
    const stop = new AbortController()
    const running = new RetrySchedule({ redis, entriesMax: 10 }).run('s', stop.signal, () => {})
    await expect.poll(() => state(redis), { timeout: 10_000 }).toEqual({ queued: 3, waiting: 0, pending: 0 })
    stop.abort()
    await running
    await redis.del('s')
    await redis.xGroupCreate('s', 'g', '0', { MKSTREAM: true })
    const retries = [12, 3].map((attempts) => failed({ attempts: attempts + 1, failure: 'unavailable' }, HOUR_MS))
    expect(await putOff(redis, retries)).toMatchObject({ attempts: 13 })
  })

  test('moved back to its stream it is forgotten here', async ({ redis }) => {
    await putOff(redis, [failed(LONG_FAILING, SOON_MS)])
    const stop = new AbortController()
    const running = new RetrySchedule({ redis, entriesMax: 10 }).run('s', stop.signal, () => {})
    await expect.poll(() => redis.xLen('s'), { timeout: 10_000 }).toBe(1)
    stop.abort()
    await running
    expect(await redis.exists(['s:retry', 's:retry:dids'])).toBe(0)
  })
})

test('a full schedule takes nothing in, and the entry stays where it is', async ({ redis }) => {
  const schedule = new RetrySchedule({ redis, entriesMax: 1 })
  const [first, second] = await pending(redis, 2)
  const turn = { host: 'pds.example', delayMs: 10_000, intervalMs: 1 }
  expect(await schedule.defer(ADDRESS, first!, entryOf(0), turn)).toBe(true)
  expect(await schedule.defer(ADDRESS, second!, entryOf(1), turn)).toBe(false)
  expect(await state(redis)).toEqual({ queued: 1, waiting: 1, pending: 1 })
})

test('it tells whether a part of its room is taken', async ({ redis }) => {
  const schedule = new RetrySchedule({ redis, entriesMax: 4 })
  const ids = await pending(redis, 2)
  for (const [n, id] of ids.entries()) {
    expect(await schedule.hasRoom('s', 1 / 2)).toBe(true)
    await schedule.retry(ADDRESS, id, entryOf(n), 60_000)
  }
  expect([await schedule.hasRoom('s', 1 / 2), await schedule.hasRoom('s', 1)]).toEqual([false, true])
})

test('what waits for a host has it remembered, and is no reason to forget it sooner', async ({ redis }) => {
  const schedule = new RetrySchedule({ redis, entriesMax: 4 })
  const ids = await pending(redis, 2)
  const left: number[] = []
  for (const [n, keptMs] of [86_400_000, 60_000].entries()) {
    await schedule.defer(ADDRESS, ids[n]!, entryOf(n), { host: 'pds.example', delayMs: 1, intervalMs: 1, keptMs })
    left.push(await redis.pTTL('s:host:pds.example'))
  }
  for (const ms of left) expect(ms).toBeGreaterThan(80_000_000)
})

test('whoever moves what is due waits while Redis is away, ends at once when asked to then, and goes on afterwards', async () => {
  await using server = await startRedis()
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  await using _ = { [Symbol.asyncDispose]: async () => redis.destroy() }
  await redis.xGroupCreate('s', 'g', '0', { MKSTREAM: true })
  const schedule = new RetrySchedule({ redis, entriesMax: 10 })
  const [id] = await pending(redis, 1)
  await schedule.retry(ADDRESS, id!, entryOf(0), SOON_MS)
  await server.kill()

  const [stopped, lasting] = [new AbortController(), new AbortController()]
  let failures = 0
  const run = (stop: AbortController): Promise<void> => schedule.run('s', stop.signal, () => void failures++)
  const [ending, running] = [run(stopped), run(lasting)]
  await expect.poll(() => failures, { timeout: 10_000 }).toBeGreaterThan(1)
  stopped.abort()
  await ending

  await server.start()
  await expect.poll(() => redis.xLen('s').catch(() => 0), { timeout: 20_000 }).toBe(1)
  lasting.abort()
  await running
})
