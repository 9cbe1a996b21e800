/**
 * Counts in Redis what came of each host's repositories, for all backfillers together. Only for display (`sluice
 * backfill status`, the demo): 16,000 hosts are too many for the labels of a metric. Nobody waits for the writes, and a
 * count that Redis does not take is lost.
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

  /** `done`: a repository was exported, or its account's status is known. `failed`: a try that came to nothing. */
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
