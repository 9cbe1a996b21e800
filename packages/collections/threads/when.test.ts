import { TID } from '@atproto/common-web'
import { expect, test } from 'vitest'
import { claimOfDate, claimOfKey, writtenAt } from './when.ts'

const early = '3lzzzzzzzzz2a'
const late = '3mzzzzzzzzz2a'

test('a live commit tells when it was, whatever the record claims', () => {
  expect(writtenAt({ rev: late, live: true }, early)).toBe(late)
})

test('in an export the record’s own claim counts, but never beyond the head of the export', () => {
  expect(writtenAt({ rev: late, live: false }, early)).toBe(early)
  expect(writtenAt({ rev: early, live: false }, late)).toBe(early)
  expect(writtenAt({ rev: late, live: false }, undefined)).toBe(late)
})

test('a row of another indexer has no rev: its claim is all there is', () => {
  expect(writtenAt({ rev: '', live: false }, late)).toBe(late)
})

test('a date becomes the TID that the official library makes of it', () => {
  for (const date of ['2006-01-01T00:00:00.000Z', '2026-06-01T12:34:56.789Z', '2200-02-28T23:59:59.999Z']) {
    expect(claimOfDate(date)).toBe(TID.fromTime(Date.parse(date) * 1000, 0).toString())
  }
})

test('a date becomes the TID of that moment, in order', () => {
  const claims = [
    '1970-01-01T00:00:00.001Z',
    '2005-09-01T00:00:00.000Z',
    '2023-01-01T00:00:00.000Z',
    '2026-06-01T00:00:00.000Z',
    '2255-06-05T23:47:34.740Z',
  ].map((date) => claimOfDate(date)!)
  expect(claims.every((claim) => /^[2-7a-j][2-7a-z]{12}$/.test(claim))).toBe(true)
  expect([...claims].sort()).toEqual(claims)
})

test.each([
  '9999-12-31T23:59:59.999Z',
  '2255-06-06T00:00:00.000Z',
  '1970-01-01T00:00:00.000Z',
  '0001-01-01T00:00:00.000Z',
  'never',
])('a date that no TID can say (%s) claims nothing', (date) => {
  expect(claimOfDate(date)).toBeUndefined()
})

test('a record key that is a TID claims before the date does', () => {
  const uri = (rkey: string): string => `at://did:plc:a/app.bsky.feed.post/${rkey}`
  expect(claimOfKey(uri(early), '2026-06-01T00:00:00.000Z')).toBe(early)
  expect(claimOfKey(uri('self'), '2026-06-01T00:00:00.000Z')).toBe(claimOfDate('2026-06-01T00:00:00.000Z'))
  expect(claimOfKey(uri('zzzzzzzzzzzzz'), 'never')).toBeUndefined()
})
