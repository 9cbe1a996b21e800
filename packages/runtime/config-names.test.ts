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

const KNOWN = new Set(['LABELER_HOSTS', 'METRICS_PORT', 'INGESTER_HOST', 'REDIS_URL', 'LOG_LEVEL'])

test('the nearest name has the fewest edits', () => {
  expect(nearestName('RELAY_HOST', ['REDIS_HOST', 'RELAY_HOSTS', 'LABELER_HOSTS'])).toEqual(['RELAY_HOSTS', 1])
})

test.each([
  ['LABELLER_HOSTS', 'did you mean LABELER_HOSTS'],
  ['METRIC_PORT', 'did you mean METRICS_PORT'],
  ['INGESTER_HOST_OF_MINE', 'the nearest is'],
  ['REDIS_ULR', 'did you mean REDIS_URL'],
])('%s: %s', (name, sentence) => {
  expect(unknownNames({ [name]: 'x' }, KNOWN)).toEqual([
    expect.stringContaining(`${name} is not a variable of ours: ${sentence}`),
  ])
})

test.each<[string, boolean]>([
  // Eleven characters are long: two slips in them are still a misspelt name, and three are another name.
  ['RELAY_HOXTZ', true],
  ['RELAY_HXXTZ', false],
  ['RELAY_HOXX', false],
  ['REDIS_URX', true],
  ['REDIS_UXX', false],
])('%s, with a prefix that others use too, is suspected: %s', (name, isSuspect) => {
  const found = unknownNames({ [name]: 'x' }, new Set(['RELAY_HOSTS', 'REDIS_URL']))
  expect(found.length).toBe(isSuspect ? 1 : 0)
})

test.each(['INGESTER_HOST', 'LOG_LEVEL', 'SLUICE_BUILD_ID', 'INGESTER_SERVICE_PORT', 'INGESTER_PORT_80_TCP'])(
  '%s is known, or was injected for a service of that name',
  (name) => {
    expect(unknownNames({ [name]: 'x' }, KNOWN)).toEqual([])
  },
)

test.each(['LOG_LEVELS', 'METRICS_PORTAL', 'REDIS_PASSWORD', 'LABEL', 'PATH'])('%s is somebody else’s', (name) => {
  expect(unknownNames({ [name]: 'x' }, KNOWN)).toEqual([])
})

test('what names other servers to the tests may be exported beside the daemons', () => {
  const env = { SLUICE_TEST_REDIS: '/usr/bin/valkey-server', SLUICE_TEST_POSTGRES_BIN: '/usr/lib/postgresql/17/bin' }
  expect(unknownNames(env, new Set(['SLUICE_DRAIN_MS']))).toEqual([])
})
