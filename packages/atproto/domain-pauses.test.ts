import { expect, test } from 'vitest'
import { DomainPauses } from './domain-pauses.ts'

function clock() {
  const time = { ms: 1_000 }
  return { time, pauses: new DomainPauses({ now: () => time.ms, hostsOfDomain: 3, remembered: 6 }) }
}

test('a host is left alone for as long as it says, and speaks for no other', () => {
  const { time, pauses } = clock()
  pauses.add('evil.co.uk', 500)
  expect([pauses.leftMs('evil.co.uk'), pauses.leftMs('good.co.uk'), pauses.leftMs('co.uk')]).toEqual([500, 0, 0])
  time.ms += 500
  expect(pauses.leftMs('evil.co.uk')).toBe(0)
})

test('several hosts below one domain speak for all of it', () => {
  const { time, pauses } = clock()
  for (const name of ['a', 'b', 'b', 'b']) pauses.add(`${name}.bsky.social`, 500)
  expect(pauses.leftMs('z.bsky.social')).toBe(0)
  pauses.add('c.bsky.social', 700)
  expect([pauses.leftMs('z.bsky.social'), pauses.leftMs('x.example.com')]).toEqual([700, 0])
  time.ms += 700
  pauses.add('a.bsky.social', 500)
  expect(pauses.leftMs('z.bsky.social')).toBe(0)
})

test('a pause is not made shorter by the answer to a request that was under way when it began', () => {
  const { pauses } = clock()
  for (const name of ['a', 'b', 'c']) pauses.add(`${name}.bsky.social`, 300_000)
  for (const name of ['a', 'd', 'e', 'f']) pauses.add(`${name}.bsky.social`, 1_000)
  expect([pauses.leftMs('a.bsky.social'), pauses.leftMs('z.bsky.social')]).toEqual([300_000, 300_000])
})

test('by itself it takes four hosts, by the clock', async () => {
  const pauses = new DomainPauses()
  for (const name of ['a', 'b', 'c']) pauses.add(`${name}.bsky.social`, 600_000)
  expect(pauses.leftMs('z.bsky.social')).toBe(0)
  pauses.add('d.bsky.social', 600_000)
  expect(pauses.leftMs('z.bsky.social')).toBeGreaterThan(0)
  expect(pauses.leftMs('z.bsky.social')).toBeLessThanOrEqual(600_000)
  pauses.add('a.example.com', 1)
  await expect.poll(() => pauses.leftMs('a.example.com')).toBe(0)
})

test('several do not while another one answers between them', () => {
  const { pauses } = clock()
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) {
    pauses.add(`${name}.co.uk`, 500)
    pauses.answered(name === 'b' ? 'good.co.uk' : 'good.example.com')
    if (name === 'd') pauses.answered('bbc.co.uk')
  }
  expect([pauses.leftMs('z.co.uk'), pauses.leftMs('f.co.uk')]).toEqual([0, 500])
  pauses.add('g.co.uk', 500)
  expect(pauses.leftMs('z.co.uk')).toBe(500)
})

test('names below a top-level domain have no domain in common', () => {
  const { pauses } = clock()
  for (const name of ['a', 'b', 'c', 'd']) pauses.add(`${name}.com`, 500)
  expect(pauses.leftMs('z.com')).toBe(0)
})

test('the oldest is forgotten first', () => {
  const { pauses } = clock()
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) pauses.add(`${name}.com`, 500)
  expect([pauses.leftMs('a.com'), pauses.leftMs('b.com')]).toEqual([0, 500])
})
