/**
 * Repositories that may be killing the process: when one that was delivered often is begun, Redis remembers it; when it
 * is done, Redis forgets it. One that was under way at too many deaths is given up.
 *
 * Deliveries alone prove nothing, since entries wait here for their hosts while a process is restarted. Those that were under
 * way at an earlier death are taken one at a time, so that they are not blamed for each other.
 */
import { Budget } from '@sluice/runtime/budget.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import type { Claim } from './claims.ts'

/** From this delivery on we remember. */
const SUSPECT_DELIVERIES = 4
/**
 * A suspect that was under way at so many deaths is guilty. With 5, one of 1,000 innocent repositories was convicted when two
 * processes were killed at random twenty times within minutes.
 */
const DEATHS_MAX = 10

export class CrashSuspects {
  readonly #redis: Redis
  readonly #group: string
  readonly #alone = new Budget(1)

  constructor(redis: Redis, group: string) {
    this.#redis = redis
    this.#group = group
  }

  /**
   * Works on a claim, unless it has killed too often: then calls `onGuilty` with the number of deaths. Redis failing us here
   * costs the suspicion, not the work.
   */
  async watch(
    claim: Claim,
    { work, onGuilty }: { work: () => Promise<void>; onGuilty: (deaths: number) => Promise<void> },
    signal: AbortSignal,
  ): Promise<void> {
    if (claim.deliveries < SUSPECT_DELIVERIES) return work()
    const key = `${claim.stream}:under-way:${this.#group}`
    const deaths = Number(await this.#redis.hGet(key, claim.id).catch(() => 0))
    const forget = (): Promise<unknown> => this.#redis.hDel(key, claim.id).catch(() => 0)
    if (deaths >= DEATHS_MAX) {
      await onGuilty(deaths)
      await forget()
      return
    }
    if (deaths > 0) await this.#alone.acquire(1, signal)
    try {
      await this.#redis.hIncrBy(key, claim.id, 1).catch(() => 0)
      await work()
      await forget()
    } catch (error) {
      // Whoever gets here is alive: a stop is no death. After anything else the entry is settled.
      if (signal.aborted) await this.#redis.hIncrBy(key, claim.id, -1).catch(() => 0)
      else await forget()
      throw error
    } finally {
      if (deaths > 0) this.#alone.release(1)
    }
  }
}
