import { tidFromMicros } from '@sluice/events/tid.ts'
import type { ListedRepo } from '@sluice/atproto/xrpc.ts'
import type { ChainRecord } from '@sluice/streams/chain-state.ts'
import { shardOf, WHOLE } from '@sluice/streams/spread.ts'
import { expect, test } from 'vitest'
import { considerListing, type ListingDecision, type ListingOptions } from './listing.ts'

const NOW_MS = 1_800_000_000_000
const DID = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
const rev = (secondsAgo: number): string => tidFromMicros((NOW_MS - secondsAgo * 1_000) * 1_000)
const at = (secondsAgo: number, more: Partial<ChainRecord> = {}): ChainRecord => ({
  rev: rev(secondsAgo),
  data: '\x01\x71\x12\x20'.padEnd(20, 'x'),
  exported: true,
  inactive: false,
  ...more,
})

function consider(
  repo: Partial<ListedRepo>,
  record?: ChainRecord,
  options: Partial<ListingOptions> = {},
): ListingDecision {
  return considerListing([{ did: DID, head: 'x', rev: rev(1_000), ...repo }], new Map(record && [[DID, record]]), {
    host: 'host',
    isPds: false,
    isSweep: true,
    nowMs: NOW_MS,
    horizonMs: NOW_MS - 60_000,
    skipDids: new Set(),
    shard: WHOLE,
    ...options,
  })
}

test('what nobody knows is asked for, once', () => {
  const { outcomes, requests, records } = consider({}, undefined, { isSweep: false })
  expect(outcomes).toEqual(['asked'])
  expect(requests).toEqual([{ did: DID, host: 'host', rev: rev(1_000), reason: 'listed' }])
  expect(consider({}, records.get(DID)).outcomes).toEqual(['pending'])
})

test('a sweep asks for what is behind and not too young, and for nothing else', () => {
  expect(consider({}, at(1_000)).outcomes).toEqual(['known'])
  expect(consider({}, at(500)).outcomes).toEqual(['known'])
  expect(consider({}, at(2_000))).toMatchObject({ outcomes: ['asked'], requests: [{ reason: 'sweep' }] })
  expect(consider({ rev: rev(30) }, at(2_000))).toMatchObject({
    outcomes: ['too-young'],
    leftOutSinceMs: NOW_MS - 30_000,
  })
  expect(consider({}, at(2_000)).leftOutSinceMs).toBe(Infinity)
})

test('a resync that was deferred is asked for, whatever its rev', () => {
  const record = at(1_000, { resync: { need: rev(1_000), askedAt: 0 } })
  expect(consider({}, record).outcomes).toEqual(['asked'])
})

test('a first listing passes on the status of an inactive account, a later one asks its host where it differs', () => {
  const gone = { active: false, status: 'takendown' }
  expect(consider(gone, undefined, { isSweep: false })).toMatchObject({
    outcomes: ['asked'],
    requests: [{ active: false, status: 'takendown' }],
    records: new Map([[DID, { inactive: true }]]),
  })
  expect(consider(gone, at(1, { inactive: true })).outcomes).toEqual(['inactive'])
  expect(consider(gone, at(1))).toMatchObject({ outcomes: ['status-differs'], suspects: [DID], requests: [] })
  expect(consider({}, at(1, { inactive: true }))).toMatchObject({ outcomes: ['status-differs'], suspects: [DID] })
  expect(consider(gone, at(1), { isPds: true })).toMatchObject({ outcomes: ['inactive'], suspects: [] })
})

test('what is left out and what is no DID', () => {
  expect(consider({}, undefined, { skipDids: new Set([DID]) }).outcomes).toEqual(['skipped'])
  expect(consider({ did: 'alice' }).outcomes).toEqual(['invalid'])
})

test.for(['did:plc:made-up', 'did:plc:', 'did:example:alice', 'did:web:a.example:alice'])(
  'what cannot be resolved is not asked for: %s',
  (did) => {
    for (const isPds of [true, false])
      expect(consider({ did }, undefined, { isPds })).toMatchObject({ outcomes: ['invalid'], requests: [] })
  },
)

test('the rev that a PDS lists asks for a repository, and does not say what its export must have', () => {
  const madeUp = { rev: rev(120), active: false, status: 'takendown' }
  const pds = { isPds: true }
  const behind = consider({ rev: rev(120) }, at(2_000), pds)
  expect(behind.requests).toEqual([{ did: DID, host: 'host', rev: '', reason: 'sweep' }])
  expect(behind.records.get(DID)!.resync).toEqual({ need: rev(2_000), askedAt: NOW_MS / 1_000 })
  const deferred = at(2_000, { resync: { need: rev(1_500), askedAt: 0 } })
  expect(consider({ rev: rev(120) }, deferred, pds).records.get(DID)!.resync!.need).toBe(rev(1_500))
  expect(consider({ rev: rev(120) }, undefined, pds)).toMatchObject({
    requests: [{ rev: '', reason: 'listed' }],
    records: new Map([[DID, { resync: { need: '' } }]]),
  })
  // Nor is its word taken that an account is not active.
  expect(consider(madeUp, undefined, pds).requests).toMatchObject([{ rev: '', active: false }])
  expect(consider(madeUp, undefined, pds).records.size).toBe(0)
  // A relay vouches for what it lists.
  expect(consider({ rev: rev(120) }, at(2_000)).records.get(DID)!.resync!.need).toBe(rev(120))
})

test.for(['', '3', 'zzzzzzzzzzzzz', 'z'.repeat(1_000_000), '3KZZZZZZZZZZ2', 'jzzzzzzzzzzzz', rev(-301)])(
  'a rev that no commit may have asks for a repository, and does not say what its export must have: %#',
  (listed) => {
    for (const status of [{ active: false, status: 'deactivated' }, {}]) {
      const { outcomes, requests } = consider({ rev: listed, ...status }, undefined, { isSweep: false })
      expect(outcomes).toEqual(['asked'])
      expect(requests).toEqual([{ did: DID, host: 'host', rev: '', reason: 'listed', ...status }])
    }
  },
)

test('an account of another shard is left out, whatever is known of it', () => {
  const own = { index: shardOf(DID, 3), of: 3 }
  const other = { index: (own.index + 1) % 3, of: 3 }
  expect(consider({}, at(2_000), { shard: own }).outcomes).toEqual(['asked'])
  for (const repo of [{}, { active: false, status: 'takendown' }]) {
    const { outcomes, requests, records, suspects } = consider(repo, at(2_000), { shard: other })
    expect({ outcomes, requests, records: records.size, suspects }).toEqual({
      outcomes: ['other-shard'],
      requests: [],
      records: 0,
      suspects: [],
    })
  }
})

test('a repository that is listed twice in a page is asked for once, whatever is said of it, and whoever lists it', () => {
  const active = { did: DID, head: 'x', rev: rev(1_000) }
  const gone = { ...active, active: false, status: 'takendown' }
  for (const isPds of [true, false]) {
    for (const page of [
      [active, active],
      [gone, gone],
      [gone, active],
      [active, gone],
    ]) {
      const { outcomes, requests } = considerListing(page, new Map(), {
        host: 'host',
        isPds,
        isSweep: false,
        nowMs: NOW_MS,
        horizonMs: NOW_MS,
        skipDids: new Set(),
        shard: WHOLE,
      })
      expect(outcomes).toEqual(['asked', 'pending'])
      expect(requests.length).toBe(1)
    }
  }
})
