/** When sweeps are due: at an interval, and when a process or an operator finds that something may be missing, by a key that says why. */
import { sleep } from '@sluice/runtime/backoff.ts'
import { sweepDemandKey, sweptKey } from '@sluice/streams/backfill-queue.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'

export interface SweepScheduleOptions {
  redis: Redis
  repoStream: string
  /** 0: on demand only. */
  sweepIntervalMs: number
  pollMs?: number
  /** Between the sweeps for a demand that was not met. */
  againMs?: number
}

const POLL_MS = 1_000
const AGAIN_MS = 600_000

/** Asks for a sweep. @throws TransientError */
export async function demandSweep(redis: Redis, repoStream: string, why: string): Promise<void> {
  // The time makes it another demand than one that is just being met.
  await classified(redis.set(sweepDemandKey(repoStream), `${why} (${new Date().toISOString()})`))
}

/** When a demand was made, Unix ms; NaN when it does not say. */
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

  /** @returns why it is due. @throws TransientError, AbortError on the signal */
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

  /** A sweep has ended that met the demand for which it was due. A demand that came meanwhile stays. @param why as `untilDue` said. @throws TransientError */
  async met(why: string): Promise<void> {
    const { redis, repoStream } = this.#options
    const key = sweepDemandKey(repoStream)
    await this.#note()
    if ((await classified(redis.get(key))) === why) await classified(redis.del(key))
  }

  /** A sweep has ended, and another one is to follow for the same demand. @param why as `untilDue` said. @throws TransientError */
  async unmet(why: string): Promise<void> {
    this.#unmet = why
    await this.#note()
  }

  /** A sweep has ended now. */
  async #note(): Promise<void> {
    const { redis, repoStream } = this.#options
    await classified(redis.set(sweptKey(repoStream), new Date().toISOString()))
  }
}
