/** When an account that nobody answered for is asked about again. */
import { retryAfterMs } from '@sluice/runtime/backoff.ts'
import { TransientError, type RefusedError } from '@sluice/runtime/errors.ts'

const CAP_MS = 6 * 3_600_000

/**
 * How long to wait after a question without an answer, or with one that cannot be used: twice as long each time, up to six hours, and no less than its host asked for.
 * @param failures how many there were before this one, in a row
 */
export function waitToAskAgainMs(retryMs: number, failures: number, error: TransientError | RefusedError): number {
  // 2³⁰ is beyond the cap; more would end in Infinity.
  const waitMs = Math.min(CAP_MS, retryMs * 2 ** Math.min(failures, 30))
  return Math.max(waitMs, error instanceof TransientError ? retryAfterMs(error) : 0)
}
