import { expect, test } from 'vitest'
import { editDistance, nearestName, unknownNames } from './config-names.ts'

test.each([
  ['', '', 0],
  ['abc', 'abc', 0],
  ['abc', '', 3],
  ['abc', 'acb', 1],
  ['REDIS_ULR', 'REDIS_URL', 1],
  ['kitten', 'sitting', 3],
])('from %s to %s: %i edits, either way', (a, b, edits) => {
  expect(editDistance(a, b)).toBe(edits)
  expect(editDistance(b, a)).toBe(edits)
})

test('the nearest name has the fewest edits', () => {
  expect(nearestName('RELAY_HOST', ['REDIS_HOST', 'RELAY_HOSTS', 'LABELER_HOSTS'])).toEqual(['RELAY_HOSTS', 1])
})

test('what names other servers to the tests may be exported beside the daemons', () => {
  const env = { SLUICE_TEST_REDIS: '/usr/bin/valkey-server', SLUICE_TEST_POSTGRES_BIN: '/usr/lib/postgresql/17/bin' }
  expect(unknownNames(env, new Set(['SLUICE_DRAIN_MS']))).toEqual([])
})
