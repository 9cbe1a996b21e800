/**
 * Tells an outage of a host from a cursor that the host has forgotten. Some hosts do not refuse such a cursor but fail
 * on it (5xx): each time, for hours, while they list from the start. Without this the listing would be stuck there
 * until a person removes the cursor.
 *
 * The failures are kept in Redis and timed by its clock: a host of a relay's list is asked only a few times in each
 * sweep, and no process need live for hours. Only failures of the cursor that failed last are kept. They no longer
 * count when that cursor was taken, moved past, or removed by an operator. Failures of a host that nobody lists any
 * more expire.
 */
import { classified, redisTimeMs, type Redis } from '@sluice/streams/connection.ts'
import { hostOf } from '@sluice/streams/cursors.ts'

/** Longer than most outages, and shorter than the day between two sweeps. */
const STUCK_MS = 6 * 3_600_000
/** As often as two sweeps ask a host of a relay's list: failures in one sweep alone do not last for hours. */
const STUCK_TRIES = 10
/** How long the failures are kept after the last one: strangers' hosts come and go. */
const KEPT_MS = 30 * 86_400_000

/**
 * `<stream>:stuck:<host>`: a hash. `cursor` failed `tries` times since `since` (ISO 8601). `anew`: how often the
 * listing began at the start again since it last came to its end.
 */
export const stuckKey = (stream: string, host: string): string => `${stream}:stuck:${hostOf(host)}`

export class StuckCursor {
  readonly #redis: Redis
  readonly #key: string
  /** Whether Redis may hold a failure. A listing that goes well asks Redis once. */
  #mayHold = true

  constructor(redis: Redis, key: string) {
    this.#redis = redis
    this.#key = key
  }

  /**
   * The host has failed on this cursor.
   * @returns whether it has failed for so long that it may have forgotten the cursor
   * @throws TransientError
   */
  async failed(cursor: string): Promise<boolean> {
    return this.#ask(async (redis, key) => {
      this.#mayHold = true
      const nowMs = await redisTimeMs(redis)
      const kept = await redis.hGetAll(key)
      if (kept.cursor !== cursor) await redis.hSet(key, { cursor, since: new Date(nowMs).toISOString(), tries: '0' })
      const tries = await redis.hIncrBy(key, 'tries', 1)
      await redis.pExpire(key, KEPT_MS)
      return tries >= STUCK_TRIES && nowMs - Date.parse(kept.since ?? '') >= STUCK_MS
    })
  }

  /**
   * A page was taken: earlier failures count no more.
   * @throws TransientError
   */
  async moved(): Promise<void> {
    if (!this.#mayHold) return
    await this.#ask((redis, key) => redis.hDel(key, ['cursor', 'since', 'tries']))
    this.#mayHold = false
  }

  /**
   * The listing has come to its end.
   * @throws TransientError
   */
  async ended(): Promise<void> {
    await this.#ask((redis, key) => redis.del(key))
  }

  /**
   * The listing begins anew.
   * @returns how often it has begun anew since it last came to its end
   * @throws TransientError
   */
  async beginAnew(): Promise<number> {
    return this.#ask((redis, key) => redis.hIncrBy(key, 'anew', 1))
  }

  async #ask<T>(ask: (redis: Redis, key: string) => Promise<T>): Promise<T> {
    return classified(ask(this.#redis, this.#key))
  }
}
