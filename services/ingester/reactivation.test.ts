import { expect, test } from 'vitest'
import type { Cid } from '@sluice/atproto/cid.ts'
import { decide, type Finding, type Limits } from './decide.ts'

const ALICE = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
const rev = '3lzzzzzzzzz2a'
const data = `\x01\x71\x12\x20${'1'.repeat(32)}` as Cid
const NOW: Limits = { nowSeconds: 1_000_000, asks: 10, mayAsk: () => true }
const account = (active: boolean): Finding => ({
  host: 'relay',
  did: ALICE,
  what: { kind: 'account', entry: active ? 'on' : 'off', active },
})

test('an account that comes back is asked for whole, though nothing of it was seen meanwhile', () => {
  const away = new Map([[ALICE, { rev, data, exported: true, inactive: true }]])
  const { requests, records, entries } = decide([account(true)], away, NOW)
  expect(entries).toEqual(['on'])
  expect(requests).toEqual([{ did: ALICE, host: 'relay', rev, reason: 'reactivated' }])
  expect(records.get(ALICE)).toMatchObject({ inactive: false, resync: { need: rev, askedAt: 1_000_000 } })
})

test('what was asked for before the account was found inactive does not count as pending', () => {
  const asked = { rev: '', data: '', exported: false, inactive: false, resync: { need: rev, askedAt: 999_000 } }
  const found = new Map([[ALICE, { ...asked, inactive: true }]])
  const { requests, records } = decide([account(true)], found, NOW)
  expect(requests).toEqual([{ did: ALICE, host: 'relay', rev, reason: 'reactivated' }])
  expect(records.get(ALICE)).toEqual({ ...asked, resync: { need: rev, askedAt: 1_000_000 } })
})

test('who goes and comes within one batch is asked for as well', () => {
  const here = new Map([[ALICE, { rev, data, exported: true, inactive: false }]])
  const { requests } = decide([account(false), account(true)], here, NOW)
  expect(requests).toMatchObject([{ did: ALICE, reason: 'reactivated' }])
})

test('who goes and comes many times within one batch is asked for once', () => {
  const here = new Map([[ALICE, { rev, data, exported: true, inactive: false }]])
  const turns = Array.from({ length: 5 }, () => [account(false), account(true)]).flat()
  const { requests, resyncs, records } = decide(turns, here, NOW)
  expect(requests.length).toBe(1)
  expect(resyncs.map(({ answer }) => answer)).toEqual(['asked', ...Array(4).fill('pending')])
  expect(records.get(ALICE)).toMatchObject({ inactive: false, resync: { need: rev, askedAt: 1_000_000 } })
})
