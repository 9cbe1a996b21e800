import { Throttle } from '@sluice/atproto/throttle.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from 'vitest'
import { putOffMs, waitToAskAgainMs } from './ask-again.ts'
import { SlowHostError } from './host-pace.ts'

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

test('who was not asked is put off: until there is a place, or some seconds, and not for longer each time', async () => {
  const full = new Throttle({ name: 'test', concurrency: 1, perSecond: 1, waiting: 0 })
  const turnedAway = await full.run(async () => undefined).catch((error: unknown) => error)
  expect([0, 0.5, 1].map((random) => putOffMs(turnedAway, () => random))).toEqual([10_000, 12_500, 15_000])
  expect(putOffMs(new SlowHostError('slow of late'))).toBe(0)
  expect([silence, new RefusedError('invalid-value', ''), undefined].map((error) => putOffMs(error))).toEqual([undefined, undefined, undefined]) // prettier-ignore
})
