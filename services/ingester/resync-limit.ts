/**
 * How many repositories the live stream may request at present. A relay that lost something breaks many chains at once,
 * and a first start knows no chains. Without a limit `repo_backfill` would take the memory that live events need. A
 * request that is turned away is remembered in the chain record, and made with the account's next commit or by the
 * sweep.
 *
 * A single account must not use this limit up either. So each has a limit of its own, which recovers slowly. Switching
 * an account off and on, or breaking its chain as soon as it was repaired, costs its host nothing, and us the whole
 * repository each time.
 */
import { remember } from '@sluice/runtime/remember.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import type { Limits } from './decide.ts'

export interface ResyncLimitOptions {
  redis: Redis
  repoStream: string
  perSecond: number
  /** With so many entries in the repo stream nothing more is asked for. */
  entriesMax: number
  /** A monotonic clock in ms. If it could be set back, nothing would be asked for until it had caught up. */
  now?: () => number
}

const LOOK_MS = 1_000
/**
 * How often one account may be asked for at once. Enough for an account that comes and goes, or whose commits a bad
 * relay loses. A request that is turned away may have to wait a day, for the sweep: with a limit of one, an account
 * whose chain broke twice within minutes would stay incomplete until then.
 */
export const ACCOUNT_ASKS = 20
/** An account regains one ask in this time. */
export const ACCOUNT_ASK_MS = 300_000
/**
 * How many accounts are remembered, of about 100 bytes each: with 200 requests a second at least those of the last 8
 * minutes.
 */
const REMEMBERED = 100_000

export class ResyncLimit {
  readonly #options: Required<ResyncLimitOptions>
  #tokens: number
  #filledAt: number
  #depth = Infinity
  #lookedAt = -Infinity
  /** When each account will have regained all of its asks. */
  readonly #wholeAt = new Map<string, number>()

  constructor(options: ResyncLimitOptions) {
    this.#options = { now: () => performance.now(), ...options }
    this.#tokens = options.perSecond
    this.#filledAt = this.#options.now()
  }

  async now(): Promise<Limits> {
    const { now, perSecond, entriesMax } = this.#options
    const nowMs = now()
    this.#tokens = Math.min(perSecond, this.#tokens + ((nowMs - this.#filledAt) / 1_000) * perSecond)
    this.#filledAt = nowMs
    if (nowMs - this.#lookedAt >= LOOK_MS) await this.#look(nowMs)
    return {
      nowSeconds: Math.floor(Date.now() / 1_000),
      asks: Math.max(0, Math.floor(Math.min(this.#tokens, entriesMax - this.#depth))),
      mayAsk: (did) => (this.#wholeAt.get(did) ?? 0) - nowMs <= (ACCOUNT_ASKS - 1) * ACCOUNT_ASK_MS,
    }
  }

  /** Counts requests for these accounts. */
  spend(dids: readonly string[]): void {
    this.#tokens -= dids.length
    this.#depth += dids.length
    const nowMs = this.#options.now()
    for (const did of dids) {
      const wholeAt = Math.max(this.#wholeAt.get(did) ?? 0, nowMs) + ACCOUNT_ASK_MS
      remember(this.#wholeAt, did, wholeAt, REMEMBERED)
    }
  }

  /** If Redis does not answer, the last depth counts: the limit is about seconds, not about single entries. */
  async #look(nowMs: number): Promise<void> {
    this.#lookedAt = nowMs
    const { redis, repoStream } = this.#options
    this.#depth = await redis.xLen(repoStream).catch(() => this.#depth)
  }
}
