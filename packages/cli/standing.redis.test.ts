/**
 * When the index must hold what a repository has: once its events have arrived and are done with; never while they may
 * still come.
 */
import { tidFromMicros } from '@sluice/events/tid.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { chainAddress, encodeChain, UNKNOWN_CHAIN, type ChainRecord } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { timeKey } from '@sluice/streams/cursors.ts'
import { Standings, type Standing } from './standing.ts'

const DID = `did:plc:${'a'.repeat(24)}`
const HOUR_MS = 3_600_000
const PLACE = {
  relays: ['wss://relay.example', 'quiet.example'],
  streams: { live: 'firehose_live', repo: 'repo_backfill', label: 'label_live', backfill: 'firehose_backfill' },
  indexed: ['firehose_live', 'firehose_backfill'],
  sweepGraceMs: HOUR_MS,
}
const NEVER = new AbortController().signal
/** So long that a test which waited for it would fail. */
const LONG_MS = 600_000

const revAt = (ms: number): string => tidFromMicros(ms * 1_000)

/** A server of its own, since its commands are counted. */
const test = base.extend('redis', async ({}, { onCleanup }): Promise<Redis> => {
  const server = await startRedis()
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  onCleanup(async () => {
    redis.destroy()
    await server[Symbol.asyncDispose]()
  })
  return redis
})

/** How often the server was given a command. */
async function calls(redis: Redis, command: string): Promise<number> {
  const stats = await redis.info('commandstats')
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
}

async function chain(redis: Redis, record: Partial<ChainRecord>): Promise<void> {
  const { key, field } = chainAddress(DID)
  const known = { ...UNKNOWN_CHAIN, data: `\u0001\u0071\u0012\u0020${'x'.repeat(16)}`, exported: true, ...record }
  await redis.hSet(key, field, encodeChain(known))
}

/** @param ageMs of the rev */
async function standing(redis: Redis, ageMs: number, patienceMs: number): Promise<Standing> {
  return new Standings(redis, PLACE, patienceMs).of({ did: DID, rev: revAt(Date.now() - ageMs) }, NEVER)
}

test('what has arrived is indexed when nothing of that time is left in the streams, whatever came since', async ({
  redis,
}) => {
  await chain(redis, { rev: revAt(Date.now()) })
  expect(await standing(redis, 1_000, LONG_MS)).toBe('indexed')
  const ids = await Promise.all(PLACE.indexed.map(async (stream) => redis.xAdd(stream, '*', { event: '{}' })))
  expect(await standing(redis, 1_000, 0)).toBe('under-way')
  let isDone = false
  const before = await calls(redis, 'xrevrange')
  const waiting = standing(redis, 1_000, LONG_MS).finally(() => (isDone = true))
  await expect.poll(() => calls(redis, 'xrevrange')).toBe(before + PLACE.indexed.length)
  for (const stream of PLACE.indexed) await redis.xAdd(stream, '*', { event: '{}' })
  await redis.xDel(PLACE.indexed[0]!, ids[0]!)
  expect(isDone).toBe(false)
  await redis.xDel(PLACE.indexed[1]!, ids[1]!)
  expect(await waiting).toBe('indexed')
})

test('a rev that has not arrived is on its way while it is young', async ({ redis }) => {
  for (const rev of ['', revAt(Date.now() - 2 * HOUR_MS)]) {
    await chain(redis, { rev })
    expect(await standing(redis, 1_000, 0)).toBe('under-way')
    expect(await standing(redis, HOUR_MS + 60_000, LONG_MS)).toBe('indexed')
  }
})

test('a rev that is ahead of all that was read of the relays is on its way, however old it is', async ({ redis }) => {
  await redis.set(timeKey('firehose_live', PLACE.relays[1]!), new Date(Date.now() - 90 * HOUR_MS).toISOString())
  const read = (ageMs: number) => redis.set(timeKey('firehose_live', PLACE.relays[0]!), new Date(Date.now() - ageMs).toISOString()) // prettier-ignore
  await read(10 * HOUR_MS)
  expect(await standing(redis, 9 * HOUR_MS, 0)).toBe('under-way')
  await read(8 * HOUR_MS)
  expect(await standing(redis, 9 * HOUR_MS, LONG_MS)).toBe('indexed')
})

test('a repository that is asked for is not waited for', async ({ redis }) => {
  await chain(redis, { rev: revAt(Date.now()), resync: { need: '', askedAt: 0 } })
  expect(await standing(redis, 1_000, LONG_MS)).toBe('to-be-fetched')
})

test('an index that is far behind is waited for three times, and not for each account', async ({ redis }) => {
  const standings = new Standings(redis, PLACE, 300)
  const rev = revAt(Date.now())
  const looks = () => calls(redis, 'evalsha')
  for (let i = 0; i < 3; i++) await standings.of({ did: DID, rev }, NEVER)
  const before = await looks()
  for (let i = 0; i < 10; i++) expect(await standings.of({ did: DID, rev }, NEVER)).toBe('under-way')
  expect(await looks()).toBe(before + 10)
})
