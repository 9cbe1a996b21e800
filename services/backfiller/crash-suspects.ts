/**
 * Repositories that may be killing the process: when one that was delivered often is begun, Redis remembers it; when it
 * is done, Redis forgets it. One that was under way at too many deaths is given up.
 *
 * Deliveries alone prove nothing, since entries wait here for their hosts while a process is restarted. Those that were under
 * way at an earlier death are let in one at a time, so that they are not blamed for each other. They wait before they need anything that others
 * could use: after a death there may be as many as there are places.
 *
 * Redis failing us here costs the suspicion, not the work.
 */
import { Budget } from '@sluice/runtime/budget.ts'
import { underWayKey } from '@sluice/streams/backfill-queue.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import type { Claim } from './claims.ts'

/** From this delivery on we remember. */
const SUSPECT_DELIVERIES = 4
/**
 * A suspect that was under way at so many deaths is guilty. With 5, one of 1,000 innocent repositories was convicted when two
 * processes were killed at random twenty times within minutes.
 */
export const DEATHS_MAX = 10

export class CrashSuspects {
  readonly #redis: Redis
  readonly #group: string
  readonly #alone = new Budget(1)

  constructor(redis: Redis, group: string) {
    this.#redis = redis
    this.#group = group
  }

  /** At how many deaths a claim was under way. */
  async deathsOf(claim: Claim): Promise<number> {
    if (!isWatched(claim)) return 0
    return Number(await this.#redis.hGet(this.#key(claim), claim.id).catch(() => 0))
  }

  /** Lets a suspect in when it is known of those before it how they are given back. Never rejects, as `letIn`; after the signal it lets nobody in. */
  async alone(claim: Claim, letIn: () => Promise<void>, signal: AbortSignal): Promise<void> {
    try {
      await this.#alone.acquire(1, signal)
    } catch {
      return // we stop: it stays pending
    }
    await letIn()
    await claim.decided
    this.#alone.release(1)
  }

  /** Works on a claim, which is under way meanwhile. */
  async watch(claim: Claim, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    if (!isWatched(claim)) return work()
    try {
      await this.#count(claim, 1)
      await work()
      await this.forget(claim)
    } catch (error) {
      // Whoever gets here is alive: a stop is no death. After anything else the entry is settled.
      if (signal.aborted) await this.#count(claim, -1)
      else await this.forget(claim)
      throw error
    }
  }

  async forget(claim: Claim): Promise<void> {
    if (isWatched(claim)) await this.#redis.hDel(this.#key(claim), claim.id).catch(() => 0)
  }

  async #count(claim: Claim, deaths: number): Promise<void> {
    await this.#redis.hIncrBy(this.#key(claim), claim.id, deaths).catch(() => 0)
  }

  #key({ stream }: Claim): string {
    return underWayKey({ stream, group: this.#group })
  }
}

function isWatched({ deliveries }: Claim): boolean {
  return deliveries >= SUSPECT_DELIVERIES
}
