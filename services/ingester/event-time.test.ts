import { expect, test } from 'vitest'
import { eventTime } from './event-time.ts'

const NOW_MS = Date.UTC(2026, 5, 1)
const NOW = '2026-06-01T00:00:00.000Z'

test('a time of the past is taken as it is said, in UTC', () => {
  expect(eventTime('2026-05-31T23:59:59.999Z', NOW_MS)).toBe('2026-05-31T23:59:59.999Z')
  expect(eventTime('2026-06-01T01:30:00+02:00', NOW_MS)).toBe('2026-05-31T23:30:00.000Z')
})

test.for(['2026-06-01T00:00:00.001Z', '9999-12-31T23:59:59.999Z', '+275760-09-13T00:00:00.000Z'])(
  'nothing happens later than we have it: %s is now',
  (said) => expect(eventTime(said, NOW_MS)).toBe(NOW),
)

test.for(['', 'yesterday', '2026-01-00T00:00:00.000Z'])('what is no time is now: "%s"', (said) => {
  expect(eventTime(said, NOW_MS)).toBe(NOW)
})
