/**
 * Requests that repositories are fetched again, as an operator. Such fetches go before all others, and remove from the
 * index what the repositories no longer hold.
 */
import { backfillEventCodec } from '@sluice/events/codec.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { isAbort } from '@sluice/runtime/errors.ts'
import { slices } from '@sluice/runtime/slices.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { count } from './output.ts'
import type { Session } from './session.ts'

export interface Request {
  did: string
  /** The host that listed the account, without scheme; empty: the backfiller asks the account's PDS. */
  host?: string
  rev?: string
}

const PIPELINED = 1_000

/**
 * Queues a fetch of each repository, in order. It may be repeated: the index ends up the same. With a `room` it waits
 * until there is room. Returns how many were queued; fewer than all only when the user stopped it.
 * @throws TransientError
 */
export async function requestRepos(
  redis: Redis,
  stream: string,
  requests: Iterable<Request>,
  room?: QueueRoom,
): Promise<number> {
  let queued = 0
  for (const slice of slices(requests, PIPELINED)) {
    if (room && !(await room.has())) return queued
    const entries = slice.map(({ did, host = '', rev = '' }) => {
      const event: BackfillEvent = { did, host, rev, reason: 'requested' }
      return backfillEventCodec.encode(event)
    })
    await classified(Promise.all(entries.map(async (entry) => redis.xAdd(stream, '*', entry))))
    room?.took(entries, await classified(redis.xLen(stream)))
    queued += slice.length
  }
  return queued
}

/**
 * Our memory mark, as a part of the mark at which the backfiller holds back (60 % of maxmemory). Once the backfiller
 * holds back, it takes from the queue again only below nine tenths of its mark. Our mark lies below that.
 */
const OF_BACKFILLER_MARK = 5 / 6

/**
 * Room for requests in Redis. If a queue filled Redis to the mark at which the backfiller holds back, it would never be
 * drained: the backfiller would take nothing from it, and nothing else makes room (measured: 260,000 requests in 24
 * MB). The number of entries is limited as that of the ingester is.
 */
export class QueueRoom {
  readonly #mark: HighWater
  readonly #signal: AbortSignal
  #queued = 0

  constructor({ redis, stream, session }: { redis: Redis; stream: string; session: Session }) {
    const { settings, out, signal } = session
    this.#signal = signal
    this.#mark = new HighWater({
      redis,
      stream,
      entriesMax: settings.highWater.get(settings.streams.repo)!,
      memoryRatioMax: (settings.memoryPercent.backfiller / 100) * OF_BACKFILLER_MARK,
      onChange: (held) =>
        out.line(
          held
            ? `${count(this.#queued)} queued; waits: ${held.detail}. Goes on by itself as the backfiller takes what is queued, and the indexer what that fetches`
            : 'goes on',
        ),
    })
  }

  /**
   * Resolves when there is room for more requests. The first requests go in at once, because the repair of a few
   * accounts must not wait for a backfill. Returns false when the user has stopped it.
   */
  async has(): Promise<boolean> {
    try {
      this.#signal.throwIfAborted()
      if (this.#queued > 0) await this.#mark.room(this.#signal)
      return true
    } catch (error) {
      if (isAbort(error) && this.#signal.aborted) return false
      throw error
    }
  }

  took(entries: readonly Record<string, string>[], depth: number): void {
    this.#queued += entries.length
    const bytes = entries.reduce((sum, entry) => sum + Object.values(entry).join('').length, 0)
    this.#mark.observe({ entries: depth, bytes })
  }
}
