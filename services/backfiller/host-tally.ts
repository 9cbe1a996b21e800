/**
 * What came of each host's repositories, kept in Redis by all backfillers together: for display (`sluice backfill status`, the
 * demo). 16,000 hosts are too many for labels of a metric.
 *
 * For information only: it is written beside the work, and what Redis does not take is lost.
 */
import { hostKey, hostsKey, TALLY_FIELDS } from '@sluice/streams/backfill-queue.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { HOST_KEPT_MS } from './pds-limits.ts'

export class HostTally {
  readonly #redis: Redis
  readonly #stream: string

  constructor(redis: Redis, stream: string) {
    this.#redis = redis
    this.#stream = stream
  }

  /** `done`: exported, or its status is known; `failed`: a try that came to nothing. */
  count(host: string, what: keyof typeof TALLY_FIELDS): void {
    const redis = this.#redis
    const now = Date.now()
    const key = hostKey(this.#stream, host)
    const written = [
      redis.hIncrBy(key, TALLY_FIELDS[what], 1),
      redis.pExpire(key, HOST_KEPT_MS),
      redis.zAdd(hostsKey(this.#stream), { score: now, value: host }),
      redis.zRemRangeByScore(hostsKey(this.#stream), '-inf', now - HOST_KEPT_MS),
    ]
    for (const write of written) write.catch(() => undefined)
  }
}
