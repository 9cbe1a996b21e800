import { normalizeDatetimeAlways } from '@atproto/syntax'
import { expect, test } from 'vitest'
import { random, seedOfRun } from './lexicon/testing/random.ts'
import { datetime, perturb } from './lexicon/testing/samples.ts'
import { normalizeDatetime, withoutNul } from './values.ts'

const seed = seedOfRun()

test('timestamps are normalised as by the official AppView, whatever they look like', () => {
  const source = random(seed)
  for (let i = 0; i < 5_000; i++) {
    let text = datetime(source)
    for (let times = source.below(3); times > 0; times--) text = perturb(source, text)
    expect(normalizeDatetime(text), text).toBe(normalizeDatetimeAlways(text))
  }
})

test.each([
  ['2026-06-01T12:00:00.000Z', '2026-06-01T12:00:00.000Z'],
  ['2026-06-01T12:00:00Z', '2026-06-01T12:00:00.000Z'],
  ['2026-06-01T12:00:00.123456+02:00', '2026-06-01T10:00:00.123Z'],
  ['1985-04-12T23:20:50.1-07:00', '1985-04-13T06:20:50.100Z'],
  ['yesterday', '1970-01-01T00:00:00.000Z'],
  ['', '1970-01-01T00:00:00.000Z'],
])('%j is %s', (text, normal) => {
  expect(normalizeDatetime(text)).toBe(normal)
})

test('a date that does not exist is not taken as it stands', () => {
  const text = '2023-02-31T00:00:00.000Z'
  expect(normalizeDatetime(text)).toBe(normalizeDatetimeAlways(text))
  expect(normalizeDatetime(text)).not.toBe(text)
})

test('V5 NUL goes from every string at any depth; a key with it goes whole, and a type stays unknown', () => {
  const value = { a: ['x\0y', { b: '\0' }, 1, null, true], c: 'é👍', 'a\0': {}, d: { $type: 'known\0', 'reply\0': {} } }
  expect(withoutNul(value)).toEqual({ a: ['xy', { b: '' }, 1, null, true], c: 'é👍', d: { $type: 'known\0' } })
  expect(value.a[0]).toBe('x\0y')
})
