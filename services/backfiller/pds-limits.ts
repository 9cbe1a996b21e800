/**
 * How much a host may be asked, by all backfillers together. The counts are in Redis, and times are by Redis' clock.
 *
 * Each request needs a permit. There is none while the host is parked (after a 429, or after repositories that failed
 * in a row), while as many requests are under way as the host may have, while the host's own headers say that no
 * request is left, and while its token bucket is empty. The holder of a permit gives it back with the result of the
 * request. Permits of a process that died expire by themselves.
 *
 * A permit costs one round trip to Redis to ask, and one to give it back: about 0.1 ms each, next to a fetch of
 * seconds.
 */
import { randomUUID } from 'node:crypto'
import { sleep } from '@sluice/runtime/backoff.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { classifyRedisError, redisTimeMs, type Redis } from '@sluice/streams/connection.ts'
import { hostKey, slotsKey } from '@sluice/streams/backfill-queue.ts'
import { loadScript, runScript } from '@sluice/streams/scripts.ts'
import { LIMITED_MS } from './failures.ts'
import type { HostLimits } from './host-rules.ts'

/** Why a host may not be asked now; fit for a metric label. */
export const HOST_WAITS = ['parked', 'busy', 'stated', 'rate', 'redis'] as const
export type HostWait = (typeof HOST_WAITS)[number]

export type Asked = { permit: Permit } | { permit?: undefined; why: HostWait; waitMs: number }

/**
 * The result of a request. `failed`: the host did not work. `limited`: a 429. `ok`: any other definite answer, whatever
 * it says. `nothing`: the result tells nothing about the host.
 */
export interface Report {
  verdict: 'ok' | 'limited' | 'failed' | 'nothing'
  /** For how long the host asked to be left alone. */
  parkMs?: number
  /**
   * The DID whose repository was asked for. Only the first failure of a repository counts, until the host works again.
   * Absent: each failure counts.
   */
  repo?: string
}

export interface StatedLimit {
  /** How many requests are left, as the host says. */
  remaining: number
  /** The time until the host counts anew. */
  resetMs: number
}

export interface PdsLimitsOptions {
  redis: Redis
  /** The backfill stream. Its name is part of the hosts' keys in Redis. */
  stream: string
  limitsOf: (host: string) => HostLimits
  leaseMs?: number
}

const acquire = loadScript(new URL('lua/acquire.lua', import.meta.url))
const report = loadScript(new URL('lua/report.lua', import.meta.url))

/**
 * How long a permit holds without being renewed. A host that fails gets one request at a time, so the permit of a dead
 * process keeps all others from such a host for this long. Permits are renewed three times as often.
 */
const LEASE_MS = 15_000
/**
 * When so many repositories in a row fail, their host is parked: for a second at first, then with each further
 * repository for twice as long. A repository that fails again parks the host for no longer than the last new one. If
 * each of its failures counted, two repositories that are broken by themselves would close the host to all others for
 * `CLOSED_MS_MAX` at their thirteenth failure.
 */
const PARKING = { failures: 3, firstMs: 1_000 } as const
/** No host is closed for longer, whatever the cause. A time in Redis that is further ahead is ignored. */
export const CLOSED_MS_MAX = 600_000
/**
 * Redis forgets a host that was not asked for so long. A host of which no repository was counted, such as one that only
 * redirects lead to, is forgotten after `STRANGER_KEPT_MS`.
 */
export const HOST_KEPT_MS = 30 * 86_400_000
/** See `HOST_KEPT_MS`. Longer than a host may be closed. */
export const STRANGER_KEPT_MS = 3_600_000
/**
 * Each answer other than 429 makes up for so much of the time for which a host has answered 429. So sixteen of them
 * make up for all of it (`LIMITED_MS`), and a host that gives one every few days counts as limited again after six
 * hours.
 */
const FORGIVEN_MS = 6 * 3_600_000
/** The longest wait for a permit in the middle of a fetch. */
const WAIT_MS = 30_000
const REDIS_WAIT_MS = 1_000

/** The right to send one request to a host. */
export interface Permit {
  readonly host: string
  /**
   * Gives the permit back; only the first call counts. Never rejects: if Redis does not hear of it, the permit expires
   * by itself.
   */
  release(report: Report): Promise<void>
}

export class PdsLimits {
  readonly #options: PdsLimitsOptions
  readonly #leaseMs: number
  /** The ids of the permits that this process holds, by host. */
  readonly #held = new Map<string, Set<string>>()

  constructor(options: PdsLimitsOptions) {
    this.#options = options
    this.#leaseMs = options.leaseMs ?? LEASE_MS
  }

  limitsOf(host: string): HostLimits {
    return this.#options.limitsOf(host)
  }

  /**
   * Asks once for a permit. While Redis is away nothing is allowed.
   * @throws FatalError when Redis does not understand our command, which no wait mends
   */
  async ask(host: string): Promise<Asked> {
    const id = randomUUID()
    const refused = await this.#acquire(host, id)
    return refused ?? { permit: this.#permit(host, id) }
  }

  /**
   * Waits for a permit: for a second host, or with `slot: false` for a further request to a host for which a permit is
   * held already. That counts for the rate, but takes no slot.
   * @throws TransientError when the wait would be too long; a FatalError as `ask`; an AbortError
   */
  async wait(host: string, signal: AbortSignal, { slot = true } = {}): Promise<Permit> {
    const endMs = performance.now() + WAIT_MS
    const id = slot ? randomUUID() : ''
    for (;;) {
      const refused = await this.#acquire(host, id)
      if (!refused) return this.#permit(host, id)
      if (performance.now() + refused.waitMs > endMs)
        throw new TransientError(`${host} may not be asked now (${refused.why})`, { retryAfterMs: refused.waitMs })
      await sleep(refused.waitMs, signal)
    }
  }

  /** Takes note of the limits that a host states with an answer. */
  async observe(host: string, { remaining, resetMs }: StatedLimit): Promise<void> {
    await this.#report(host, '', { verdict: 'nothing' }, remaining, resetMs).catch(() => undefined)
  }

  /**
   * For how many ms the host has given no other answer than 429, less `FORGIVEN_MS` for each other one. 0 while Redis
   * is away.
   * @throws FatalError as `ask`
   */
  async limitedMs(host: string): Promise<number> {
    const { redis, stream } = this.#options
    try {
      const [since, nowMs] = await Promise.all([redis.hGet(hostKey(stream, host), 'limitedSince'), redisTimeMs(redis)])
      // Redis' clock may have gone back.
      return since === null ? 0 : Math.max(0, nowMs - Number(since))
    } catch (error) {
      const classified = classifyRedisError(error)
      if (!(classified instanceof TransientError)) throw classified
      return 0
    }
  }

  /** The interval at which `renew` is to be called. */
  get renewMs(): number {
    return this.#leaseMs / 3
  }

  /**
   * Extends the permits that this process holds.
   * @throws TransientError
   */
  async renew(): Promise<void> {
    const { redis, stream } = this.#options
    try {
      const score = (await redisTimeMs(redis)) + this.#leaseMs
      const renewals = [...this.#held].flatMap(([host, ids]) => {
        const key = slotsKey(stream, host)
        const members = [...ids].map((value) => ({ score, value }))
        return [redis.zAdd(key, members, { condition: 'XX' }), redis.pExpire(key, this.#leaseMs)]
      })
      await Promise.all(renewals)
    } catch (error) {
      throw classifyRedisError(error)
    }
  }

  async #acquire(host: string, id: string): Promise<{ why: HostWait; waitMs: number } | undefined> {
    const { redis, stream } = this.#options
    const { concurrency, perSecond, burst } = this.limitsOf(host)
    const kept = [HOST_KEPT_MS, STRANGER_KEPT_MS]
    const args = [id, ...[concurrency, perSecond, burst, this.#leaseMs, CLOSED_MS_MAX, ...kept].map(String)]
    try {
      const reply = await runScript(redis, acquire, [hostKey(stream, host), slotsKey(stream, host)], args)
      const [granted, why, waitMs] = reply as [number, HostWait, number]
      return granted === 1 ? undefined : { why, waitMs: Math.max(1, waitMs) }
    } catch (error) {
      const classified = classifyRedisError(error)
      if (!(classified instanceof TransientError)) throw classified
      return { why: 'redis', waitMs: REDIS_WAIT_MS }
    }
  }

  #permit(host: string, id: string): Permit {
    if (id !== '') this.#heldOf(host).add(id)
    let released = false
    return {
      host,
      release: async (report) => {
        if (released) return
        released = true
        const ids = this.#held.get(host)
        if (ids?.delete(id) && ids.size === 0) this.#held.delete(host)
        await this.#report(host, id, report).catch(() => undefined)
      },
    }
  }

  #heldOf(host: string): Set<string> {
    let ids = this.#held.get(host)
    if (ids === undefined) this.#held.set(host, (ids = new Set()))
    return ids
  }

  async #report(host: string, id: string, told: Report, remaining = -1, resetMs = 0): Promise<void> {
    const { redis, stream } = this.#options
    const { failures, firstMs } = PARKING
    const { verdict, parkMs = 0, repo = '' } = told
    const numbers = [parkMs, remaining, resetMs, failures, firstMs, CLOSED_MS_MAX, STRANGER_KEPT_MS].map(String)
    const limited = [LIMITED_MS, FORGIVEN_MS].map(String)
    const args = [id, verdict, ...numbers, repo, ...limited]
    await runScript(redis, report, [hostKey(stream, host), slotsKey(stream, host)], args)
  }
}
