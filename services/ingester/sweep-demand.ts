/**
 * When sweeps are due: at an interval, and on demand. A process or an operator that finds that something may be missing
 * sets a key in Redis that says why.
 */
import { sleep } from '@sluice/runtime/backoff.ts'
import { sweepDemandKey, sweptKey } from '@sluice/streams/backfill-queue.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'

export interface SweepScheduleOptions {
  redis: Redis
  repoStream: string
  /** 0: on demand only. */
  sweepIntervalMs: number
  pollMs?: number
  /** The time between two sweeps for a demand that was not met. */
  againMs?: number
}

const POLL_MS = 1_000
const AGAIN_MS = 600_000

/**
 * Demands a sweep.
 * @throws TransientError
 */
export async function demandSweep(redis: Redis, repoStream: string, why: string): Promise<void> {
  // The time distinguishes the demand from one that is being met at this moment.
  await classified(redis.set(sweepDemandKey(repoStream), `${why} (${new Date().toISOString()})`))
}

/** When a demand was made (Unix ms); NaN when it does not say. */
export function demandedAt(demand: string): number {
  return Date.parse(/\(([^()]+)\)$/.exec(demand)?.[1] ?? '')
}

export class SweepSchedule {
  readonly #options: SweepScheduleOptions
  /** The demand that the last sweep has not met. */
  #unmet: string | undefined

  constructor(options: SweepScheduleOptions) {
    this.#options = options
  }

  /**
   * Waits until a sweep is due.
   * @returns why it is due
   * @throws TransientError, AbortError on the signal
   */
  async untilDue(signal: AbortSignal): Promise<string> {
    const { redis, repoStream, sweepIntervalMs, pollMs = POLL_MS, againMs = AGAIN_MS } = this.#options
    for (;;) {
      const [demand, swept] = await classified(redis.mGet([sweepDemandKey(repoStream), sweptKey(repoStream)]))
      const sinceMs = Date.now() - Date.parse(swept ?? '')
      if (demand && (demand !== this.#unmet || !(sinceMs < againMs))) return demand
      // The first listing counts as a sweep.
      if (!swept) await this.#note()
      else if (sweepIntervalMs > 0 && sinceMs >= sweepIntervalMs) return 'interval'
      await sleep(pollMs, signal)
    }
  }

  /**
   * The sweep has ended and met its demand. A demand that came meanwhile stays.
   * @param why as `untilDue` returned it
   * @throws TransientError
   */
  async met(why: string): Promise<void> {
    const { redis, repoStream } = this.#options
    const key = sweepDemandKey(repoStream)
    await this.#note()
    if ((await classified(redis.get(key))) === why) await classified(redis.del(key))
  }

  /**
   * The sweep has ended, and another one is to follow for the same demand.
   * @param why as `untilDue` returned it
   * @throws TransientError
   */
  async unmet(why: string): Promise<void> {
    this.#unmet = why
    await this.#note()
  }

  /** Notes that a sweep has ended now. */
  async #note(): Promise<void> {
    const { redis, repoStream } = this.#options
    await classified(redis.set(sweptKey(repoStream), new Date().toISOString()))
  }
}
