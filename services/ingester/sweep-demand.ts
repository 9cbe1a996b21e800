/** When sweeps are due: at an interval, and when a process or an operator finds that something may be missing, by a key that says why. */
import { sleep } from '@sluice/runtime/backoff.ts'
import { sweepDemandKey, sweptKey } from '@sluice/streams/backfill-queue.ts'
import { classified, classifyRedisError, type Redis } from '@sluice/streams/connection.ts'

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
  try {
    // The time makes it another demand than one that is just being met.
    await redis.set(sweepDemandKey(repoStream), `${why} (${new Date().toISOString()})`)
  } catch (error) {
    throw classifyRedisError(error)
  }
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
      // The first listing counts as one.
      if (!swept) await this.ended('', true)
      else if (sweepIntervalMs > 0 && sinceMs >= sweepIntervalMs) return 'interval'
      await sleep(pollMs, signal)
    }
  }

  /** A demand that was not met stays, and one that came while the sweep was under way. @throws TransientError */
  async ended(why: string, isMet: boolean): Promise<void> {
    const { redis, repoStream } = this.#options
    const demandKey = sweepDemandKey(repoStream)
    if (!isMet) this.#unmet = why
    try {
      await redis.set(sweptKey(repoStream), new Date().toISOString())
      if (why !== '' && isMet && (await redis.get(demandKey)) === why) await redis.del(demandKey)
    } catch (error) {
      throw classifyRedisError(error)
    }
  }
}
