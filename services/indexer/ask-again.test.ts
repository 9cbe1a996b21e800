import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from 'vitest'
import { waitToAskAgainMs } from './ask-again.ts'

const HOUR_MS = 3_600_000
const silence = new TransientError('nobody answers')

test('each wait is twice as long as the one before, up to six hours', () => {
  const waits = [0, 1, 2, 11, 12, 5_000].map((failures) => waitToAskAgainMs(10_000, failures, silence))
  expect(waits).toEqual([10_000, 20_000, 40_000, 20_480_000, 6 * HOUR_MS, 6 * HOUR_MS])
})

test('a host that asks for more gets it, and nothing less than the wait that is due', () => {
  const asks = (retryAfterMs: number) => new TransientError('not now', { retryAfterMs })
  expect(waitToAskAgainMs(10_000, 0, asks(60_000))).toBe(60_000)
  expect(waitToAskAgainMs(10_000, 5, asks(60_000))).toBe(320_000)
  expect(waitToAskAgainMs(10_000, 0, new RefusedError('invalid-value', 'not an answer'))).toBe(10_000)
})
