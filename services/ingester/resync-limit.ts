/**
 * How many repositories the live stream may ask for at present. A relay that lost something breaks many chains at once, and a first start knows
 * of none: without a limit `repo_backfill` would take the memory that live events need. What is turned away is remembered in the chain record, and
 * asked for by the account's next commit or the sweep.
 */
import type { Redis } from '@sluice/streams/connection.ts'
import type { Limits } from './decide.ts'

export interface ResyncLimitOptions {
  redis: Redis
  repoStream: string
  perSecond: number
  /** Entries in the repo stream beyond which nothing more is asked for. */
  entriesMax: number
  now?: () => number
}

const LOOK_MS = 1_000

export class ResyncLimit {
  readonly #options: Required<ResyncLimitOptions>
  #tokens: number
  #filledAt: number
  #depth = Infinity
  #lookedAt = -Infinity

  constructor(options: ResyncLimitOptions) {
    this.#options = { now: Date.now, ...options }
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
      nowSeconds: Math.floor(nowMs / 1_000),
      asks: Math.max(0, Math.floor(Math.min(this.#tokens, entriesMax - this.#depth))),
    }
  }

  spend(requests: number): void {
    this.#tokens -= requests
    this.#depth += requests
  }

  /** Without an answer the last one counts: it is about seconds, not about entries. */
  async #look(nowMs: number): Promise<void> {
    this.#lookedAt = nowMs
    const { redis, repoStream } = this.#options
    this.#depth = await redis.xLen(repoStream).catch(() => this.#depth)
  }
}
