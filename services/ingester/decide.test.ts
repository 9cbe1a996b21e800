import type { ChainRecord } from '@sluice/streams/chain-state.ts'
import type { Cid } from '@sluice/atproto/cid.ts'
import { EMPTY_TREE } from '@sluice/atproto/mst-node.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { expect, test } from 'vitest'
import { decide, type Decision, type Finding, type Limits } from './decide.ts'
import type { TrueCommit } from './verifier.ts'

const ALICE = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
const rev = (n: number): string => tidFromMicros(1.7e15 + n)
const root = (n: number) => `\x01\x71\x12\x20${String(n).padStart(32, '0')}` as Cid
const NOW: Limits = { nowSeconds: 1_000_000, asks: 10, mayAsk: () => true }

function commit(n: number, { after = n - 1, entries = [`event ${n}`], ...links } = {}): Finding['what'] {
  const isFirst = after === 0
  return {
    kind: 'commit',
    links: {
      rev: rev(n),
      since: isFirst ? null : rev(after),
      prevData: isFirst ? EMPTY_TREE : root(after),
      tooBig: false,
      proof: 'complete',
      ...links,
    },
    data: root(n),
    entries,
    filtered: 0,
    refusedOps: [],
    refusedPaths: [],
  } satisfies TrueCommit
}

const of = (what: Finding['what']): Finding => ({ host: 'relay', did: ALICE, what })
const at = (n: number, more: Partial<ChainRecord> = {}): ChainRecord => ({
  rev: rev(n),
  data: root(n),
  exported: true,
  inactive: false,
  ...more,
})

function decided(record: ChainRecord | undefined, whats: Finding['what'][], limits = NOW): Decision {
  return decide(whats.map(of), new Map(record && [[ALICE, record]]), limits)
}

test('commits that follow each other are appended, and the record moves to the last', () => {
  const { outcomes, entries, records, requests } = decided(at(1), [commit(2), commit(3)])
  expect(outcomes).toEqual(['appended', 'appended'])
  expect(entries).toEqual(['event 2', 'event 3'])
  expect(records.get(ALICE)).toEqual(at(3))
  expect(requests).toEqual([])
})

test('V3 the first commit of an account is a base and no gap; another commit of an unknown one is a gap', () => {
  expect(decided(undefined, [commit(1)])).toMatchObject({ requests: [], records: new Map([[ALICE, at(1)]]) })
  const unknown = decided(undefined, [commit(5)])
  expect(unknown.requests).toEqual([{ did: ALICE, host: 'relay', rev: rev(5), reason: 'gap' }])
  expect(unknown.outcomes).toEqual(['appended'])
  expect(unknown.records.get(ALICE)).toEqual(at(5, { exported: false, resync: { need: rev(5), askedAt: 1_000_000 } }))
})

test('V3 while a resync is pending a further gap only raises what the export must have', () => {
  const record = at(1, { resync: { need: rev(1), askedAt: 999_000 } })
  const { requests, resyncs, records } = decided(record, [commit(5, { after: 3 })])
  expect(requests).toEqual([])
  expect(resyncs).toEqual([{ cause: 'since', answer: 'pending' }])
  expect(records.get(ALICE)!.resync).toEqual({ need: rev(5), askedAt: 999_000 })
})

test('a resync that has not come for days is asked for again, by a commit that follows too', () => {
  const record = at(1, { resync: { need: rev(1), askedAt: 1_000_000 - 4 * 86_400 } })
  const { requests, resyncs, records } = decided(record, [commit(2)])
  expect(requests).toMatchObject([{ rev: rev(1), reason: 'gap' }])
  expect(resyncs).toEqual([{ cause: 'again', answer: 'asked' }])
  expect(records.get(ALICE)!.resync).toEqual({ need: rev(1), askedAt: 1_000_000 })
})

test('beyond the limit nothing is asked for, and the next commit asks', () => {
  const full = decided(at(1), [commit(5, { after: 3 })], { ...NOW, asks: 0 })
  expect(full.requests).toEqual([])
  expect(full.resyncs).toEqual([{ cause: 'since', answer: 'deferred' }])
  const later = decided(full.records.get(ALICE), [commit(6)])
  expect(later.requests).toMatchObject([{ rev: rev(5) }])
})

test('the limit counts the requests of a batch', () => {
  const findings = ['b', 'c', 'd'].map((letter) => ({
    host: 'relay',
    did: ALICE.replaceAll('a', letter),
    what: commit(5, { after: 3 }),
  }))
  const { requests, resyncs } = decide(findings, new Map(), { ...NOW, asks: 2 })
  expect(requests.length).toBe(2)
  expect(resyncs.map(({ answer }) => answer)).toEqual(['asked', 'asked', 'deferred'])
})

test('what the limit turns away is counted for accounts that were complete, and not where the account was asked for too often', () => {
  const none = { ...NOW, asks: 0 }
  const broken = commit(5, { after: 3 })
  expect(decided(at(1), [broken, commit(6)], none).turnedAway).toBe(2)
  expect(decided(at(1), [broken]).turnedAway).toBe(0)
  expect(decided(at(1), [broken], { ...NOW, mayAsk: () => false }).turnedAway).toBe(0)
  // Its first export is still to come, and brings all of it.
  expect(decided(at(1, { exported: false }), [broken], none).turnedAway).toBe(0)
  expect(decided(undefined, [broken], none).turnedAway).toBe(0)
})

test('an account that was asked for often lately is deferred, whatever the cause, and asked for when it may be again', () => {
  const busy = { ...NOW, mayAsk: (did: string) => did !== ALICE }
  const away = at(1, { inactive: true, resync: { need: rev(1), askedAt: 999_000 } })
  for (const [record, what] of [
    [at(1), commit(5, { after: 3 })],
    [away, { kind: 'account', entry: 'on', active: true }],
    [at(1), { kind: 'sync', rev: rev(5), data: root(5) }],
  ] satisfies [ChainRecord, Finding['what']][]) {
    const { requests, resyncs, records } = decided(record, [what], busy)
    expect(requests).toEqual([])
    expect(resyncs).toMatchObject([{ answer: 'deferred' }])
    const { need } = records.get(ALICE)!.resync!
    expect(records.get(ALICE)).toMatchObject({ inactive: false, resync: { askedAt: 0 } })
    const next = commit(6, { after: records.get(ALICE)!.rev === rev(1) ? 1 : 5 })
    expect(decided(records.get(ALICE), [next]).requests).toMatchObject([{ did: ALICE, rev: need }])
  }
  const bob = { host: 'relay', did: 'did:plc:bbbbbbbbbbbbbbbbbbbbbbbb', what: commit(5, { after: 3 }) }
  expect(decide([bob], new Map(), busy).requests).toMatchObject([{ did: bob.did }])
})

test('what is not newer is a duplicate, within a batch too', () => {
  expect(decided(at(3), [commit(3), commit(2), commit(4), commit(4)])).toMatchObject({
    outcomes: ['duplicate', 'duplicate', 'appended', 'duplicate'],
    entries: ['event 4'],
  })
})

test('ops that could not be proven are not appended: a resync brings them', () => {
  const { outcomes, entries, requests } = decided(at(1), [commit(2, { proof: 'incomplete' } as object)])
  expect(outcomes).toEqual(['resync'])
  expect(entries).toEqual([])
  expect(requests.length).toBe(1)
})

test.for([
  ['that follows', at(1)],
  ['that is the first of its account', undefined],
] as const)(
  'a commit %s and lacks the block of a record appends the others, and a resync brings that one',
  ([, held]) => {
    const n = held === undefined ? 1 : 2
    const lacking = (entries: string[]): Finding['what'] => ({
      ...(commit(n, { entries }) as TrueCommit),
      refusedOps: ['op-bad-path', 'op-missing-block'],
    })
    const { outcomes, entries, requests, resyncs, records } = decided(held, [lacking(['sibling'])])
    expect(outcomes).toEqual(['appended'])
    expect(entries).toEqual(['sibling'])
    expect(requests).toEqual([{ did: ALICE, host: 'relay', rev: rev(n), reason: 'gap' }])
    expect(resyncs).toEqual([{ cause: 'incomplete-proof', answer: 'asked' }])
    expect(records.get(ALICE)).toMatchObject({ rev: rev(n), resync: { need: rev(n), askedAt: 1_000_000 } })
    expect(decided(held, [lacking([])]).outcomes).toEqual(['resync'])
  },
)

test('an op that an export would not bring either is refused, and asks for nothing', () => {
  const what = { ...(commit(2, { entries: [] }) as TrueCommit), refusedOps: ['op-record-too-large' as const] }
  expect(decided(at(1), [what])).toMatchObject({ outcomes: ['refused:op-record-too-large'], requests: [] })
})

test('V3 a commit without wanted events moves the chain all the same', () => {
  const { outcomes, records } = decided(at(1), [commit(2, { entries: [] }), commit(3)])
  expect(outcomes).toEqual(['empty', 'appended'])
  expect(records.get(ALICE)).toEqual(at(3))
})

test('an inactive account appends nothing until it is active again, and then the whole is asked for', () => {
  const { outcomes, entries, requests, suspects, records } = decided(at(1), [
    { kind: 'account', entry: 'off', active: false },
    commit(2),
    { kind: 'account', entry: 'on', active: true },
    commit(3),
  ])
  expect(outcomes).toEqual(['appended', 'refused:account-inactive', 'appended', 'appended'])
  expect(entries).toEqual(['off', 'on', 'event 3'])
  expect(suspects).toEqual([ALICE])
  expect(requests).toEqual([{ did: ALICE, host: 'relay', rev: rev(2), reason: 'reactivated' }])
  expect(records.get(ALICE)).toMatchObject({ inactive: false, rev: rev(3), resync: { need: rev(3) } })
})

test('an account event that changes nothing leaves the record alone', () => {
  const { records, requests } = decided(at(1), [{ kind: 'account', entry: 'on', active: true }])
  expect(records.size).toBe(0)
  expect(requests).toEqual([])
})

test('V3 a #sync of a state that we have is no resync; of another, newer one it is', () => {
  const sync = (n: number, data = root(n)): Finding['what'] => ({ kind: 'sync', rev: rev(n), data })
  expect(decided(at(1), [sync(1), sync(2, root(1))])).toMatchObject({
    outcomes: ['duplicate', 'unchanged'],
    requests: [],
  })
  expect(decided(at(1), [sync(2)])).toMatchObject({
    outcomes: ['resync'],
    requests: [{ rev: rev(2), reason: 'sync' }],
  })
})

test('a frame that could not be checked counts for nothing, and asks for the repository', () => {
  const { outcomes, requests, records } = decided(at(1), [{ kind: 'unresolved' }])
  expect(outcomes).toEqual(['refused:identity-unavailable'])
  expect(requests).toMatchObject([{ did: ALICE, rev: rev(1) }])
  expect(records.get(ALICE)).toMatchObject({ rev: rev(1) })
})

test('V3 of a commit that is too big nothing is appended, whatever ops it names: none of them was proven', () => {
  const tooBig = { tooBig: true, proof: 'unchecked' } as object
  const { outcomes, entries, requests, records } = decided(at(1), [commit(2, tooBig)])
  expect(outcomes).toEqual(['resync'])
  expect(entries).toEqual([])
  expect(requests).toEqual([{ did: ALICE, host: 'relay', rev: rev(2), reason: 'too-big' }])
  expect(records.get(ALICE)).toMatchObject({ rev: rev(2), data: root(2) })
})

test.for([
  ['commit', commit(5, { after: 3 })],
  ['#sync', { kind: 'sync', rev: rev(5), data: root(5) }],
] satisfies [string, Finding['what']][])(
  'A1 a %s of an account that is not active asks its host, and is needed when it is active again',
  ([, what]) => {
    const asked = at(1, { inactive: true, resync: { need: rev(1), askedAt: 999_000 } })
    for (const [record, askedAt] of [
      [at(1, { inactive: true }), 0],
      [asked, 999_000],
    ] as const) {
      const { outcomes, entries, requests, suspects, records } = decided(record, [what])
      expect(outcomes).toEqual(['refused:account-inactive'])
      expect([entries, requests]).toEqual([[], []])
      expect(suspects).toEqual([ALICE])
      expect(records.get(ALICE)).toEqual({ ...record, resync: { need: rev(5), askedAt } })
    }
  },
)

test('A1 an account that is said to be inactive once more is suspected once', () => {
  const off: Finding['what'] = { kind: 'account', entry: 'off', active: false }
  expect(decided(at(1), [off, off])).toMatchObject({ entries: ['off', 'off'], suspects: [ALICE] })
  expect(decided(at(1, { inactive: true }), [off]).suspects).toEqual([])
})

test('V3 a frame that could not be checked lowers nothing of what an export must have', () => {
  const record = at(1, { resync: { need: rev(4), askedAt: 0 } })
  expect(decided(record, [{ kind: 'unresolved' }]).requests).toMatchObject([{ rev: rev(4), reason: 'gap' }])
  const pending = at(1, { resync: { need: rev(4), askedAt: 999_000 } })
  const { requests, records } = decided(pending, [{ kind: 'unresolved' }])
  expect(requests).toEqual([])
  expect(records.get(ALICE)!.resync).toEqual({ need: rev(4), askedAt: 999_000 })
})

test('V3 a #sync of the tree that we have moves the rev, and reminds of a resync that did not come', () => {
  const same: Finding['what'] = { kind: 'sync', rev: rev(2), data: root(1) }
  expect(decided(at(1), [same]).records.get(ALICE)).toEqual({ ...at(1), rev: rev(2) })
  const deferred = at(1, { resync: { need: rev(1), askedAt: 0 } })
  const { outcomes, requests } = decided(deferred, [same])
  expect(outcomes).toEqual(['unchanged'])
  expect(requests).toEqual([{ did: ALICE, host: 'relay', rev: rev(1), reason: 'gap' }])
})
