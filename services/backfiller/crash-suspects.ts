/**
 * Finds repositories that may be killing the process. When work on an entry that was delivered often begins, Redis
 * counts it as under way; when the work ends, Redis forgets it. An entry whose process dies meanwhile stays counted:
 * that is one death. An entry that was under way at too many deaths is given up.
 *
 * Deliveries alone prove nothing: an entry that only waits here for its host is delivered again after each restart.
 * Suspects (entries that were under way at an earlier death) are let in one at a time, so that one is not blamed for
 * the crash of another. They wait before they hold anything that others could use: after a death there may be as many
 * suspects as there are places.
 *
 * When a command to Redis fails here, only the suspicion is lost, not the work.
 */
import { Budget } from '@sluice/runtime/budget.ts'
import { underWayKey } from '@sluice/streams/backfill-queue.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import type { Claim } from './claims.ts'

/** From this delivery on, Redis remembers that an entry is under way. */
const SUSPECT_DELIVERIES = 4
/**
 * An entry that was under way at so many deaths is given up. With 5, one of 1,000 innocent repositories was given up
 * when two processes were killed at random twenty times within minutes.
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

  /** At how many deaths of a process the claim was under way; 0 while Redis is away. */
  async deathsOf(claim: Claim): Promise<number> {
    if (!isWatched(claim)) return 0
    return Number(await this.#redis.hGet(this.#key(claim), claim.id).catch(() => 0))
  }

  /**
   * Calls `letIn` for a suspect when it is decided how each suspect before it is given back. Never rejects, as `letIn`.
   * After the signal it lets nobody in.
   */
  async alone(claim: Claim, letIn: () => Promise<void>, signal: AbortSignal): Promise<void> {
    try {
      await this.#alone.acquire(1, signal)
    } catch {
      return // the process stops, and the entry stays pending
    }
    await letIn()
    await claim.decided
    this.#alone.release(1)
  }

  /** Runs `work` on a claim, and counts the claim as under way meanwhile. */
  async watch(claim: Claim, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    if (!isWatched(claim)) return work()
    try {
      await this.#count(claim, 1)
      await work()
      await this.forget(claim)
    } catch (error) {
      // The process is alive here, so this is no death. After a stop the entry stays pending, and keeps the count of
      // its earlier deaths. After any other error the entry is given back, and its count is deleted.
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
