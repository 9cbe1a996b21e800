/** When an account is asked about again that nobody answered for, or that nobody was asked about, and how its claim ends until then. */
import { CrowdedError } from '@sluice/atproto/throttle.ts'
import { retryAfterMs, sleep } from '@sluice/runtime/backoff.ts'
import { TransientError, type RefusedError } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import { BusyOwnerError, SlowHostError } from './host-pace.ts'

const CAP_MS = 6 * 3_600_000
/** A silent host holds its place for 5 s: after twice that others have it. */
const TURNED_AWAY_MS = 10_000
/** While another host of its owner is asked: that may end at any time. */
const BUSY_MS = 1_000
/**
 * Of the wait of a worker that has nothing to do, after each that it turned away for that: an owner may have any number of them due, which would be claimed and written as fast
 * as PostgreSQL can. So three workers turn away 48 a second, and ten thousand keep others waiting for some minutes.
 */
const PART_OF_POLL = 1 / 16

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

/** What comes of a question to which there is no answer. */
export const UNANSWERED = ['put-off', 'turned-away', 'unknown'] as const

export interface UnansweredOptions<Claim> {
  /** Ends a claim: it is one of those that fail, and due again then (ISO 8601). */
  fail: (claim: Claim, dueAt: string) => Promise<void>
  /** Ends a claim of which nobody was asked: due again then, as what it was. */
  giveBack: (claim: Claim, dueAt: string) => Promise<void>
  count: (outcome: (typeof UNANSWERED)[number]) => void
  log: Logger
  /** The first wait after a question that nobody answered. */
  retryMs: number
  /** Of a worker that has nothing to do. */
  pollMs: number
}

/** Ends the claims of accounts whose host was not asked, or gave no answer that can be used. */
export class Unanswered<Claim extends { did: string }> {
  readonly #options: UnansweredOptions<Claim>

  constructor(options: UnansweredOptions<Claim>) {
    this.#options = options
  }

  /**
   * After a question that came to nothing.
   * @param failures how many questions nobody answered before, in a row
   * @throws `error`, when it is none of the other side's
   */
  async end(claim: Claim, failures: number, error: unknown, signal: AbortSignal): Promise<void> {
    const { fail, giveBack, count, pollMs } = this.#options
    if (error instanceof SlowHostError) {
      // It is asked at once, in the place of those that do not answer.
      count('put-off')
      return await fail(claim, inMs(0))
    }
    if (error instanceof BusyOwnerError || error instanceof CrowdedError) {
      const isBusy = error instanceof BusyOwnerError
      count('turned-away')
      await giveBack(claim, inMs(isBusy ? BUSY_MS * (1 + Math.random() / 2) : turnedAwayMs(Math.random)))
      if (isBusy) await sleep(pollMs * PART_OF_POLL, signal)
      return
    }
    if (!(error instanceof TransientError)) throw error
    await this.askAgain(claim, failures, error)
  }

  /** Later, and ever later: there was no answer, or none that can be used. */
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
