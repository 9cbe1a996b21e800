/**
 * What came of each host's repositories, in Redis, by all backfillers together: for whoever looks on (`sluice backfill status`, the
 * demo). 16,000 hosts are too many for labels of a metric.
 *
 * Only a picture: it is written beside the work, and what Redis does not take is lost.
 */
import { hostKey, hostsKey, TALLY_FIELDS } from '@sluice/streams/backfill-queue.ts'
import type { Redis } from '@sluice/streams/connection.ts'

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
    const now = { score: Date.now(), value: host }
    const written = [
      redis.hIncrBy(hostKey(this.#stream, host), TALLY_FIELDS[what], 1),
      redis.zAdd(hostsKey(this.#stream), now),
    ]
    for (const write of written) write.catch(() => undefined)
  }
}
