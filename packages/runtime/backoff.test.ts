import { describe, expect, test } from 'vitest'
import { Backoff, retry, sleep, type Retry } from './backoff.ts'
import { FatalError, isAbort, TransientError } from './errors.ts'

const POLICY = { baseMs: 100, capMs: 5000, healthyAfterMs: 30_000 }
const NO_WAIT = { baseMs: 0, capMs: 0, healthyAfterMs: 0 }

/** A backoff with a clock of its own that always draws the longest wait. */
function longest() {
  const clock = { nowMs: 0 }
  return { clock, backoff: new Backoff(POLICY, { random: () => 1, now: () => clock.nowMs }) }
}

const waits = (backoff: Backoff, count: number) => Array.from({ length: count }, () => backoff.nextMs())

describe('backoff', () => {
  test('the longest wait doubles up to the cap', () => {
    const { backoff } = longest()
    expect(waits(backoff, 8)).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000])
    expect(backoff.attempts).toBe(8)
  })

  test('waits are drawn from the whole range, so that clients spread out', () => {
    const draws = [0, 0.25, 0.999].map((random) => new Backoff(POLICY, { random: () => random }).nextMs())
    expect(draws).toEqual([0, 25, 99.9])
  })

  test('a thousand and more attempts stay at the cap', () => {
    const { backoff } = longest()
    expect(waits(backoff, 5000).at(-1)).toBe(5000)
    expect(waits(new Backoff({ baseMs: 1, capMs: Infinity, healthyAfterMs: 0 }), 2000).every(Number.isFinite)).toBe(
      true,
    )
  })

  test('a failure after a short success goes on where it was', () => {
    const { backoff, clock } = longest()
    waits(backoff, 3)
    backoff.healthy()
    clock.nowMs += POLICY.healthyAfterMs - 1
    expect(backoff.nextMs()).toBe(800)
  })

  test('a failure after a long success starts again, counted from the first sign of health', () => {
    const { backoff, clock } = longest()
    waits(backoff, 3)
    backoff.healthy()
    clock.nowMs += POLICY.healthyAfterMs - 1
    backoff.healthy()
    clock.nowMs += 1
    expect(waits(backoff, 2)).toEqual([100, 200])
  })

  test('a long time without a sign of health is no success', () => {
    const { backoff, clock } = longest()
    waits(backoff, 3)
    clock.nowMs += 10 * POLICY.healthyAfterMs
    expect(backoff.nextMs()).toBe(800)
  })

  test('reset forgets all failures', () => {
    const { backoff } = longest()
    waits(backoff, 3)
    backoff.reset()
    expect(backoff.nextMs()).toBe(100)
  })
})

describe('sleep', () => {
  test('ends with an AbortError as soon as the signal aborts', async () => {
    const abort = new AbortController()
    const slept = sleep(2 ** 40, abort.signal).catch((error: unknown) => error)
    abort.abort()
    expect(isAbort(await slept)).toBe(true)
    expect(isAbort(await sleep(1, abort.signal).catch((error: unknown) => error))).toBe(true)
  })

  test('a wait beyond what a timer takes does not fire at once', async () => {
    const abort = new AbortController()
    const first = Promise.race([sleep(2 ** 31, abort.signal), sleep(20, abort.signal).then(() => 'the short one')])
    expect(await first).toBe('the short one')
    abort.abort()
  })
})

describe('retry', () => {
  /** Fails `times` times with the error, then succeeds. */
  function failing(times: number, error: Error) {
    const calls = { count: 0 }
    const attempt = async () => {
      calls.count += 1
      if (calls.count <= times) throw error
      return 'done'
    }
    return { calls, attempt }
  }

  const alive = () => new AbortController().signal

  test('tries again after each TransientError and reports each wait', async () => {
    const { attempt } = failing(3, new TransientError('down'))
    const retries: Retry[] = []
    expect(await retry(alive(), NO_WAIT, attempt, (r) => retries.push(r))).toBe('done')
    expect(retries.map((r) => r.attempt)).toEqual([1, 2, 3])
  })

  test('any other error is thrown at once', async () => {
    for (const error of [new FatalError('wrong'), new Error('a bug')]) {
      const { attempt, calls } = failing(3, error)
      await expect(retry(alive(), NO_WAIT, attempt, () => {})).rejects.toBe(error)
      expect(calls.count).toBe(1)
    }
  })

  test('what the other side asked for is waited in addition, up to an hour', async () => {
    const delays: number[] = []
    for (const retryAfterMs of [70, -5, Infinity]) {
      const abort = new AbortController()
      const { attempt } = failing(1, new TransientError('busy', { retryAfterMs }))
      await retry(abort.signal, NO_WAIT, attempt, ({ delayMs }) => {
        delays.push(delayMs)
        abort.abort()
      }).catch(() => {})
    }
    expect(delays).toEqual([70, 0, 3_600_000])
  })

  test('clients that were asked for the same wait do not come back together: each adds its own', async () => {
    const delays: number[] = []
    const { attempt } = failing(20, new TransientError('busy', { retryAfterMs: 70 }))
    const policy = { baseMs: 100, capMs: 100, healthyAfterMs: 0 }
    const wait = async () => {}
    await retry(alive(), policy, attempt, ({ delayMs }) => delays.push(delayMs), wait)
    expect(delays.filter((ms) => ms < 70 || ms > 170)).toEqual([])
    expect(new Set(delays).size).toBeGreaterThan(10)
  })

  test('a failure after the abort is no reason to wait', async () => {
    const abort = new AbortController()
    const retries: Retry[] = []
    const attempt = async () => {
      abort.abort()
      throw new TransientError('down')
    }
    const result = retry(abort.signal, NO_WAIT, attempt, (r) => retries.push(r))
    expect(isAbort(await result.catch((error: unknown) => error))).toBe(true)
    expect(retries).toEqual([])
  })

  test('an abort ends the wait and nothing is tried any more', async () => {
    const abort = new AbortController()
    const { attempt, calls } = failing(Infinity, new TransientError('down', { retryAfterMs: 3_600_000 }))
    const result = retry(abort.signal, NO_WAIT, attempt, () => queueMicrotask(() => abort.abort()))
    expect(isAbort(await result.catch((error: unknown) => error))).toBe(true)
    expect(calls.count).toBe(1)
    const late = retry(abort.signal, NO_WAIT, attempt, () => {})
    expect(isAbort(await late.catch((error: unknown) => error))).toBe(true)
    expect(calls.count).toBe(1)
  })
})
