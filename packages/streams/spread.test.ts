import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { formatShard, isInShard, laneOf, parseShard, shardOf, shardOfSetting, shardOption, WHOLE } from './spread.ts'

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
/** As the directory makes them: the start of a digest, in base32. */
const plc = (i: number): string =>
  `did:plc:${[...createHash('sha256').update(String(i)).digest().subarray(0, 24)].map((byte) => ALPHABET[byte % 32]).join('')}`
const DIDS = Array.from({ length: 10_000 }, (_, i) => plc(i))
const WEB = Array.from({ length: 10_000 }, (_, i) => `did:web:user${i}.example.com`)

/** The largest share of any part, over the even one. */
function unevenness(dids: readonly string[], parts: number, of: (did: string) => number): number {
  const counts = Array.from({ length: parts }, () => 0)
  for (const did of dids) counts[of(did)]!++
  return (Math.max(...counts) * parts) / dids.length
}

test('the shard of an account is for ever', () => {
  expect(shardOf('did:plc:z72i7hdynmk6r22z27h6tvur', 2 ** 32)).toBe(2_750_201_084)
  expect(shardOf('did:plc:ewvi7nxzyoun6zhxrhs64oiz', 2 ** 32)).toBe(925_046_932)
  expect(shardOf('did:web:exämple.com', 2 ** 32)).toBe(3_008_743_265)
  expect(
    DIDS.slice(0, 12)
      .map((did) => shardOf(did, 4))
      .join(''),
  ).toBe('231020323210')
  expect(
    DIDS.slice(0, 12)
      .map((did) => shardOf(did, 7))
      .join(''),
  ).toBe('531644102612')
})

test.for([2, 3, 4, 5, 7, 8, 16, 32])('%i shards are even, for DIDs of any kind', (shards) => {
  for (const dids of [DIDS, WEB]) {
    expect(unevenness(dids, shards, (did) => shardOf(did, shards))).toBeLessThan(1.15)
  }
})

test.for([2, 3, 4])('the accounts of one of %i shards are spread over all lanes', (shards) => {
  for (const lanes of [2, 4, 10]) {
    for (let index = 0; index < shards; index++) {
      const own = DIDS.filter((did) => isInShard(did, { index, of: shards }))
      // By one function for both, some lanes would have twice their share, and others nothing.
      expect(unevenness(own, lanes, (did) => laneOf(did, lanes))).toBeLessThan(1.25)
    }
  }
})

test.for([2, 3, 8])('%i lanes are even, for DIDs of any kind', (lanes) => {
  for (const dids of [DIDS, WEB]) {
    expect(unevenness(dids, lanes, (did) => laneOf(did, lanes))).toBeLessThan(1.15)
  }
})

test('each lane has a stretch of the accounts of the directory, in the order of their bytes', () => {
  const lanes = DIDS.toSorted().map((did) => laneOf(did, 4))
  expect(lanes).toEqual(lanes.toSorted((a, b) => a - b))
  expect(new Set(lanes).size).toBe(4)
  expect(laneOf('did:plc:2222222222222222222222aa', 4)).toBe(0)
  expect(laneOf('did:plc:zzzzzzzzzzzzzzzzzzzzzzzz', 4)).toBe(3)
})

test('what is no DID of the directory has a lane too', () => {
  const keys = [
    '',
    'did:plc:',
    'did:plc:ab',
    'did:plc:ABCD',
    'did:plc:a10b',
    'did:plc:äöüß',
    'at://did:plc:abcd/x/y',
    'did:web:a.b',
  ]
  for (const key of keys) expect([0, 1, 2]).toContain(laneOf(key, 3))
})

test('twice as many shards split each one in two', () => {
  for (const did of DIDS.slice(0, 1_000)) expect(shardOf(did, 8) % 4).toBe(shardOf(did, 4))
})

test('each account is in exactly one shard, and without shards in the whole', () => {
  for (const did of [...DIDS.slice(0, 500), '', 'no DID']) {
    expect([0, 1, 2].filter((index) => isInShard(did, { index, of: 3 })).length).toBe(1)
    expect(isInShard(did, WHOLE)).toBe(true)
  }
})

test('a shard is written as index/number, and nothing else is one', () => {
  expect(parseShard('0/4')).toEqual({ index: 0, of: 4 })
  expect(parseShard('3/4')).toEqual({ index: 3, of: 4 })
  expect(parseShard('0/1')).toEqual(WHOLE)
  expect(formatShard({ index: 3, of: 4 })).toBe('3/4')
  expect(shardOfSetting('1/2')).toEqual({ index: 1, of: 2 })
  expect(shardOfSetting(undefined)).toEqual(WHOLE)
  for (const text of ['', '4/4', '1', '1/', '/2', '-1/2', '0/0', '1/2/3', '0x1/2', ' 1/2', '1.0/2', '0/2000', 'a/b']) {
    expect([text, parseShard(text)]).toEqual([text, undefined])
    expect(shardOption.check(text)).toContain('0/2')
  }
})
