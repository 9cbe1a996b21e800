/**
 * How the claim of an account ends when its host was not asked, or gave no usable answer; and when the account is due
 * to be asked about again.
 */
import { CrowdedError } from '@sluice/atproto/throttle.ts'
import { retryAfterMs, sleep } from '@sluice/runtime/backoff.ts'
import { TransientError, type RefusedError } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import { BusyOwnerError, SlowHostError } from './host-pace.ts'

const CAP_MS = 6 * 3_600_000
/** A silent host holds its place in the queue of did:webs for 5 s. After twice that, others have had the place. */
const TURNED_AWAY_MS = 10_000
/** The wait while a host of the same owner is being asked. That question may end at any time. */
const BUSY_MS = 1_000
/**
 * After a worker has turned an account away because of other questions to the same owner (`BusyOwnerError`), the worker
 * waits for this part of `pollMs`, which is the wait of a worker that has nothing to do. Without the wait an
 * owner with many due accounts would have all of them claimed and written again as fast as PostgreSQL can. With it,
 * three workers turn away 48 accounts a second, and an owner with ten thousand due accounts keeps others waiting for
 * some minutes.
 */
const PART_OF_POLL = 1 / 16

/**
 * How long to wait after a question that got no answer, or no usable one. The wait doubles with each failure, up to six
 * hours; it is never shorter than the host asked for.
 * @param failures how many questions in a row had failed before this one
 */
export function waitToAskAgainMs(retryMs: number, failures: number, error: TransientError | RefusedError): number {
  // 2³⁰ is beyond the cap; more would end in Infinity.
  const waitMs = Math.min(CAP_MS, retryMs * 2 ** Math.min(failures, 30))
  return Math.max(waitMs, error instanceof TransientError ? retryAfterMs(error) : 0)
}

/**
 * How long to wait after being turned away (`CrowdedError`): 10 to 15 s, or, if `retryAfterMs` is longer, that and up
 * to a half more. The wait does not grow with the number of times, since nothing was tried. It is random, so that
 * accounts that were turned away together do not come back at the same moment.
 * @param random draws from 0 to 1
 */
export function turnedAwayMs(random: () => number, retryAfterMs = 0): number {
  return Math.max(TURNED_AWAY_MS, retryAfterMs) * (1 + random() / 2)
}

/**
 * How long to wait after a `BusyOwnerError`: 1 to 1.5 s, or, if the error tells that hosts were silent, until they are
 * asked again and up to a half more.
 * @param random draws from 0 to 1
 */
export function busyMs(error: BusyOwnerError, random: () => number): number {
  return Math.max(BUSY_MS, retryAfterMs(error)) * (1 + random() / 2)
}

/** The outcomes of a check that found no answer. */
export const UNANSWERED = ['put-off', 'turned-away', 'unknown'] as const

export interface UnansweredOptions<Claim> {
  /**
   * Ends a claim whose host did not answer: the account moves to the queue of failing ones, and is due at `dueAt` (ISO
   * 8601).
   */
  fail: (claim: Claim, dueAt: string) => Promise<void>
  /** Ends a claim whose host was not asked: the account stays in its queue, and is due at `dueAt`. */
  giveBack: (claim: Claim, dueAt: string) => Promise<void>
  count: (outcome: (typeof UNANSWERED)[number]) => void
  log: Logger
  /** The first wait after a question that nobody answered. */
  retryMs: number
  /** The wait of a worker that has nothing to do. */
  pollMs: number
}

/** Ends the claims of accounts whose host was not asked, or gave no answer that can be used. */
export class Unanswered<Claim extends { did: string }> {
  readonly #options: UnansweredOptions<Claim>

  constructor(options: UnansweredOptions<Claim>) {
    this.#options = options
  }

  /**
   * Ends the claim after a question that failed with `error`.
   * @param failures how many questions in a row nobody had answered before
   * @throws `error`, when it is not the fault of the other side
   */
  async end(claim: Claim, failures: number, error: unknown, signal: AbortSignal): Promise<void> {
    const { fail, giveBack, count, pollMs } = this.#options
    if (error instanceof SlowHostError) {
      // Due at once, in the queue of failing accounts, whose workers are the ones that ask slow hosts.
      count('put-off')
      return await fail(claim, inMs(0))
    }
    const isBusy = error instanceof BusyOwnerError
    if (isBusy || error instanceof CrowdedError) {
      count('turned-away')
      await giveBack(claim, inMs(isBusy ? busyMs(error, Math.random) : turnedAwayMs(Math.random, retryAfterMs(error))))
      if (isBusy) await sleep(pollMs * PART_OF_POLL, signal)
      return
    }
    if (!(error instanceof TransientError)) throw error
    await this.askAgain(claim, failures, error)
  }

  /** There was no answer, or no usable one: asks again later, after a wait that doubles each time. */
  async askAgain(claim: Claim, failures: number, error: TransientError | RefusedError): Promise<void> {
    const { fail, count, log, retryMs } = this.#options
    count('unknown')
    log.debug({ did: claim.did, error: error.message }, 'its host does not say how an account stands')
    await fail(claim, inMs(waitToAskAgainMs(retryMs, failures, error)))
  }
}

/** @returns ISO 8601 */
export function inMs(ms: number): string {
  return new Date(Date.now() + ms).toISOString()
}
