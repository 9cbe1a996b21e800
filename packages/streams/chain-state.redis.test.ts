/** Chain records move with the append that they belong to, or nothing moves. */
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { accountsSince, beginExport, moveChain, readChains, completeExport, UNKNOWN_CHAIN, type ChainRecord } from './chain-state.ts' // prettier-ignore
import { connectRedis, type Redis } from './connection.ts'
import { HighWater } from './high-water.ts'
import { Producer, StateConflictError, type AppendOptions } from './producer.ts'

const ALICE = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
const BOB = 'did:web:bob.example'
const REVS = ['3aaaaaaaaaa22', '3baaaaaaaaa22', '3caaaaaaaaa22']
const EVENT: StreamEvent = { type: 'identity', seq: 1, time: '2026-01-01T00:00:00.000Z', did: ALICE }

const at = (rev: string, more: Partial<ChainRecord> = {}): ChainRecord => ({
  ...UNKNOWN_CHAIN,
  rev,
  data: dataOf(rev),
  ...more,
})
const dataOf = (rev: string): string => `\x01\x71\x12\x20${rev.padEnd(16, '\xfe').slice(0, 16)}`

interface World extends AsyncDisposable {
  redis: Redis
  append(options: AppendOptions, events?: StreamEvent[]): ReturnType<Producer<StreamEvent>['append']>
  record(did: string): Promise<ChainRecord | undefined>
}

async function world(url: string): Promise<World> {
  const redis = await connectRedis({ url, name: 'test' })
  const highWater = new HighWater({ redis, stream: 's', entriesMax: 100 })
  const producer = new Producer<StreamEvent>({ redis, stream: 's', codec: streamEventCodec, highWater })
  const { signal } = new AbortController()
  return {
    redis,
    append: (options, events = [EVENT]) => producer.append(events, signal, options),
    record: async (did) => (await readChains(redis, [did]))[0]?.record,
    async [Symbol.asyncDispose]() {
      redis.destroy()
    },
  }
}

test('records are read in the order asked for, unknown ones as undefined', async ({ redisUrl }) => {
  await using w = await world(redisUrl)
  await w.append({ also: [moveChain(BOB, undefined, at(REVS[1]!)), moveChain(ALICE, undefined, at(REVS[0]!))] })
  const found = await readChains(w.redis, [ALICE, 'did:web:nobody.example', BOB, ALICE])
  expect(found.map((stored) => stored?.record.rev)).toEqual([REVS[0], undefined, REVS[1], REVS[0]])
})

test('a record that somebody else moved fails the whole append: no entry, no cursor, no other record', async ({
  redisUrl,
}) => {
  await using w = await world(redisUrl)
  await w.append({ also: [moveChain(ALICE, undefined, at(REVS[0]!))] })
  const [before] = await readChains(w.redis, [ALICE])
  await w.append({ also: [moveChain(ALICE, before, at(REVS[1]!))] })
  const depth = await w.redis.xLen('s')

  const late = [moveChain(BOB, undefined, at(REVS[2]!)), moveChain(ALICE, before, at(REVS[2]!))]
  const failure = await w
    .append({ cursor: { key: 'c', from: null, to: '7' }, also: late })
    .catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(StateConflictError)
  expect((failure as StateConflictError).swaps).toEqual([1])
  expect(await w.redis.xLen('s')).toBe(depth)
  expect(await w.redis.get('c')).toBe(null)
  expect(await w.record(BOB)).toBe(undefined)
  expect(await w.record(ALICE)).toEqual(at(REVS[1]!))
})

test('several cursors move together, or none', async ({ redisUrl }) => {
  await using w = await world(redisUrl)
  const move = (key: string, from: string | null, to: string) => ({ key, from, to })
  await w.append({ cursor: [move('c1', null, '1'), move('c2', null, '2')] })
  expect(await w.redis.mGet(['c1', 'c2'])).toEqual(['1', '2'])
  const failure = await w
    .append({ cursor: [move('c1', '1', '5'), move('c2', '9', '10')] })
    .catch((error: unknown) => error)
  expect(failure).toMatchObject({ key: 'c2', found: '2' })
  expect(await w.redis.mGet(['c1', 'c2'])).toEqual(['1', '2'])
})

test('counts add up in the same step', async ({ redisUrl }) => {
  await using w = await world(redisUrl)
  for (const by of [3, 4]) await w.append({ also: [{ step: 'count', key: 'ledger', field: 'appended', by }] })
  expect(await w.redis.hGetAll('ledger')).toEqual({ appended: '7' })
})

test.for([
  ['of an unknown repository is its state', undefined, at(REVS[1]!, { exported: true }), 0],
  [
    'newer than the head moves it, and ends the resync',
    at(REVS[0]!, { resync: { need: REVS[0]!, askedAt: 5 }, inactive: true }),
    at(REVS[1]!, { exported: true, inactive: true }),
    0,
  ],
  [
    'older than the head, and new enough, keeps the head and ends the resync',
    at(REVS[2]!, { resync: { need: REVS[1]!, askedAt: 5 } }),
    at(REVS[2]!, { exported: true }),
    0,
  ],
  [
    'from before the gap keeps the resync, and says so',
    at(REVS[2]!, { resync: { need: REVS[2]!, askedAt: 5 } }),
    at(REVS[2]!, { exported: true, resync: { need: REVS[2]!, askedAt: 5 } }),
    1,
  ],
  [
    'of a repository that was only listed is its state',
    { ...UNKNOWN_CHAIN, resync: { need: REVS[0]!, askedAt: 5 } },
    at(REVS[1]!, { exported: true }),
    0,
  ],
] as const)('an export %s', async ([, before, after, stale], { redisUrl }) => {
  await using w = await world(redisUrl)
  if (before) await w.append({ also: [moveChain(ALICE, undefined, before)] })
  const result = await w.append({ also: [completeExport(ALICE, { rev: REVS[1]!, data: dataOf(REVS[1]!) })] })
  expect(await w.record(ALICE)).toEqual(after)
  expect(result.stale).toBe(stale)
})

test('once a part of an export was sent, a repetition is no first time', async ({ redisUrl }) => {
  await using w = await world(redisUrl)
  await w.append({ also: [beginExport(BOB)] })
  expect(await w.record(BOB)).toEqual({ ...UNKNOWN_CHAIN, exported: true })
  const held = at(REVS[0]!, { resync: { need: REVS[0]!, askedAt: 9 } })
  await w.append({ also: [moveChain(ALICE, undefined, held)] })
  await w.append({ also: [beginExport(ALICE)] })
  expect(await w.record(ALICE)).toEqual({ ...held, exported: true })
})

test('accounts are found by the rev of their newest commit, whatever their bucket and the form of their DID', async ({
  redisUrl,
}) => {
  await using w = await world(redisUrl)
  const plc = [
    'did:plc:z72i7hdynmk6r22z27h6tvur',
    'did:plc:2222222222222222222222zz',
    'did:plc:777777777777777777777777',
  ]
  const older = [...plc.slice(0, 1), 'did:web:old.example']
  const newer = [...plc.slice(1), ALICE, BOB, 'did:web:a.b', 'did:web:a-very-long-name.of-a-host.example']
  const at1 = older.map((did) => moveChain(did, undefined, at(REVS[0]!)))
  const at2 = newer.map((did, i) => moveChain(did, undefined, at(REVS[1 + (i % 2)]!, { inactive: i === 0 })))
  await w.append({ also: [...at1, ...at2, moveChain('did:web:listed.example', undefined, UNKNOWN_CHAIN)] })
  const found = await Array.fromAsync(accountsSince(w.redis, REVS[1]!))
  expect(found.flat().toSorted()).toEqual(newer.toSorted())
})
