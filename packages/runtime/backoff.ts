/**
 * Waiting between tries: exponential backoff with full jitter, so that many clients of one failing server spread out.
 *
 * The nth wait is drawn evenly from 0 to min(capMs, baseMs · 2ⁿ).
 */
import { setTimeout as timer } from 'node:timers/promises'
import { TransientError } from './errors.ts'

export interface BackoffPolicy {
  /** The longest possible first wait. */
  readonly baseMs: number
  /** The longest possible wait of all. */
  readonly capMs: number
  /** How long the work must go well until the next failure counts as the first again. */
  readonly healthyAfterMs: number
}

export const DEFAULT_BACKOFF: BackoffPolicy = { baseMs: 250, capMs: 30_000, healthyAfterMs: 30_000 }

/** The longest delay that a timer accepts; with a longer one it would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1
/** A server may ask us to wait, but not for ever. */
const MAX_RETRY_AFTER_MS = 3_600_000

/** The state of the backoff for one thing that may fail, such as a connection. */
export class Backoff {
  readonly #policy: BackoffPolicy
  readonly #random: () => number
  readonly #now: () => number
  #attempts = 0
  #healthySince: number | undefined

  constructor(policy: BackoffPolicy = DEFAULT_BACKOFF, { random = Math.random, now = () => performance.now() } = {}) {
    this.#policy = policy
    this.#random = random
    this.#now = now
  }

  /** How many failures in a row, the last one included. */
  get attempts(): number {
    return this.#attempts
  }

  /** Called for each failure: how long to wait before the next try, in ms. */
  nextMs(): number {
    const { baseMs, capMs, healthyAfterMs } = this.#policy
    if (this.#healthySince !== undefined && this.#now() - this.#healthySince >= healthyAfterMs) this.#attempts = 0
    this.#healthySince = undefined
    // 2³⁰ is beyond any cap. A larger exponent would end in Infinity.
    const ceilingMs = Math.min(capMs, baseMs * 2 ** Math.min(this.#attempts, 30))
    this.#attempts += 1
    return this.#random() * ceilingMs
  }

  /**
   * Notes that the work goes well now (connected, first data received). This alone changes nothing: only a failure that
   * comes `healthyAfterMs` later or more starts from the base again. So a server that accepts and then drops us is not
   * hammered.
   */
  healthy(): void {
    this.#healthySince ??= this.#now()
  }

  /** Forgets all failures. Only for callers that know that the work has gone well for a while. */
  reset(): void {
    this.#attempts = 0
    this.#healthySince = undefined
  }
}

/**
 * Waits.
 * @throws an AbortError (see `isAbort`) as soon as the signal aborts
 */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await timer(Math.min(Math.max(ms, 0), MAX_TIMER_MS), undefined, { signal })
}

export interface Retry {
  readonly error: TransientError
  /** How many tries failed so far, from 1. */
  readonly attempt: number
  readonly delayMs: number
}

/**
 * Calls `attempt` until it succeeds, waiting after each TransientError, without limit. A wait that the other side asked
 * for (`retryAfterMs`) is added to the jitter: the other side asks all its clients for the same wait, and without
 * jitter they would come back together.
 * @param onWait called before each wait: log it, count it
 * @param wait waits until the next try; rejects with an AbortError when the signal aborts
 * @throws what `attempt` throws when it is no TransientError; an AbortError when the signal aborts before or between
 * tries
 */
export async function retry<T>(
  signal: AbortSignal,
  policy: BackoffPolicy,
  attempt: () => Promise<T>,
  onWait: (retry: Retry) => void,
  wait: (ms: number, signal: AbortSignal) => Promise<void> = sleep,
): Promise<T> {
  const backoff = new Backoff(policy)
  for (;;) {
    signal.throwIfAborted()
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof TransientError)) throw error
      const delayMs = backoff.nextMs() + retryAfterMs(error)
      signal.throwIfAborted()
      onWait({ error, attempt: backoff.attempts, delayMs })
      await wait(delayMs, signal)
    }
  }
}

/** The wait that the other side asked for, limited to an hour. */
export function retryAfterMs(error: TransientError): number {
  return Math.min(Math.max(error.retryAfterMs ?? 0, 0), MAX_RETRY_AFTER_MS)
}
