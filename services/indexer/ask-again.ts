/** When an account is asked about again that nobody answered for, or that nobody was asked about. */
import { retryAfterMs } from '@sluice/runtime/backoff.ts'
import { TransientError, type RefusedError } from '@sluice/runtime/errors.ts'

const CAP_MS = 6 * 3_600_000
/** A silent host holds its place for 5 s: after twice that others have it. */
const TURNED_AWAY_MS = 10_000

/**
 * How long to wait after a question without an answer, or with one that cannot be used: twice as long each time, up to six hours, and no less than its host asked for.
 * @param failures how many there were before this one, in a row
 */
export function waitToAskAgainMs(retryMs: number, failures: number, error: TransientError | RefusedError): number {
  // 2³⁰ is beyond the cap; more would end in Infinity.
  const waitMs = Math.min(CAP_MS, retryMs * 2 ** Math.min(failures, 30))
  return Math.max(waitMs, error instanceof TransientError ? retryAfterMs(error) : 0)
}

/**
 * How long to wait after being turned away (`CrowdedError`): 10 to 15 s, or for as long as that says and up to a half more, however often, since nothing was tried; not all at
 * the same moment.
 * @param random draws from 0 to 1
 */
export function turnedAwayMs(random: () => number, retryAfterMs = 0): number {
  return Math.max(TURNED_AWAY_MS, retryAfterMs) * (1 + random() / 2)
}
