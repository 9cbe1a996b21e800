import { CrowdedError } from '@sluice/atproto/throttle.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { expect, test } from 'vitest'
import { busyMs, turnedAwayMs, Unanswered, waitToAskAgainMs } from './ask-again.ts'
import { BusyOwnerError } from './host-pace.ts'

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

test('who was turned away is asked about again after some seconds, not all at once', () => {
  expect([0, 0.5, 1].map((random) => turnedAwayMs(() => random))).toEqual([10_000, 12_500, 15_000])
  expect([0, 1].map((random) => turnedAwayMs(() => random, 1_000))).toEqual([10_000, 15_000])
  expect([0, 1].map((random) => turnedAwayMs(() => random, 60_000))).toEqual([60_000, 90_000])
})

test('who was turned away since a host of its owner is being asked comes back soon, and since its host is silent, when that is asked again', () => {
  const waits = (error: BusyOwnerError) => [0, 1].map((random) => busyMs(error, () => random))
  expect(waits(new BusyOwnerError('busy'))).toEqual([1_000, 1_500])
  expect(waits(new BusyOwnerError('silent', { retryAfterMs: 200_000 }))).toEqual([200_000, 300_000])
})

test('an account that was turned away for minutes is given back, and due after them', async () => {
  const dues: number[] = []
  const unanswered = new Unanswered<{ did: string }>({
    fail: () => Promise.reject(new Error('nothing was tried')),
    giveBack: async (_, dueAt) => void dues.push(Date.parse(dueAt)),
    count: () => {},
    log: createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] }),
    retryMs: 1,
    pollMs: 1,
  })
  const from = Date.now()
  const silent = new CrowdedError('its owner is silent', { retryAfterMs: 240_000 })
  await unanswered.end({ did: 'did:web:a.example' }, 0, silent, new AbortController().signal)
  expect(dues.length).toBe(1)
  expect(dues[0]).toBeGreaterThanOrEqual(from + 240_000)
})
