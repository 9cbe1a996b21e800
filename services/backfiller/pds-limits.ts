/**
 * How much a host may be asked, by all backfillers together: the counts are in Redis, by Redis' clock.
 *
 * A request needs a permit. It is refused while the host is parked (a 429, or repositories that fail in a row), while as many requests
 * are under way as it may have, when its own headers say that none is left, and when its token bucket is empty. Whoever holds a
 * permit gives it back with the result. Permits of a process that died expire by themselves.
 *
 * One round trip to ask and one to give back, about 0.1 ms each, next to a fetch of seconds.
 */
import { randomUUID } from 'node:crypto'
import { sleep } from '@sluice/runtime/backoff.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { classifyRedisError, redisTimeMs, type Redis } from '@sluice/streams/connection.ts'
import { hostKey, slotsKey } from '@sluice/streams/backfill-queue.ts'
import { loadScript, runScript } from '@sluice/streams/scripts.ts'
import type { HostLimits } from './host-rules.ts'

/** Why a host may not be asked now; fit for a metric label. */
export const HOST_WAITS = ['parked', 'busy', 'stated', 'rate', 'redis'] as const
export type HostWait = (typeof HOST_WAITS)[number]

export type Asked = { permit: Permit } | { permit?: undefined; why: HostWait; waitMs: number }

/** What came of a request. `failed`: the host did not work; `limited`: 429; any other definite answer is `ok`, whatever it says. */
export interface Report {
  verdict: 'ok' | 'limited' | 'failed' | 'nothing'
  /** It asked to be left alone for so long. */
  parkMs?: number
  /** The DID whose repository was asked for: of one, the first failure counts until the host works again. Absent: each counts. */
  repo?: string
}

export interface StatedLimit {
  /** Requests that are left, as the host says. */
  remaining: number
  /** Until it counts anew. */
  resetMs: number
}

export interface PdsLimitsOptions {
  redis: Redis
  /** The stream whose hosts they are; part of the keys. */
  stream: string
  limitsOf: (host: string) => HostLimits
  leaseMs?: number
}

const acquire = loadScript(new URL('lua/acquire.lua', import.meta.url))
const report = loadScript(new URL('lua/report.lua', import.meta.url))

/** A host that fails is asked by one at a time, so a permit of the dead keeps it from everybody for so long. Renewed three times as often. */
const LEASE_MS = 15_000
/**
 * So many repositories that fail in a row park a host, first for a second, then for twice as long with each further one. One that fails again parks it
 * no longer than that: counted each time, two that are broken by themselves closed it to the others for `CLOSED_MS_MAX` at their thirteenth failure.
 */
const PARKING = { failures: 3, firstMs: 1_000 } as const
/** No host is closed for longer, whatever for; what Redis holds beyond that is not believed. */
export const CLOSED_MS_MAX = 600_000
/** A host is forgotten when it was not asked for so long; one of which no repository was wanted, as redirects lead to, after `STRANGER_KEPT_MS`. */
export const HOST_KEPT_MS = 30 * 86_400_000
/** Longer than a host may be closed. */
export const STRANGER_KEPT_MS = 3_600_000
/** Longer than this nobody waits with a request half done. */
const WAIT_MS = 30_000
const REDIS_WAIT_MS = 1_000

/** One request that a host may be sent. */
export interface Permit {
  readonly host: string
  /** Gives it back; only the first call counts. Never rejects: what Redis does not hear of runs out by itself. */
  release(report: Report): Promise<void>
}

export class PdsLimits {
  readonly #options: PdsLimitsOptions
  readonly #leaseMs: number
  /** Ids of permits, by host. */
  readonly #held = new Map<string, Set<string>>()

  constructor(options: PdsLimitsOptions) {
    this.#options = options
    this.#leaseMs = options.leaseMs ?? LEASE_MS
  }

  limitsOf(host: string): HostLimits {
    return this.#options.limitsOf(host)
  }

  /** Asks once. While Redis is away nothing is allowed. @throws FatalError when Redis does not understand us, which no wait mends */
  async ask(host: string): Promise<Asked> {
    const id = randomUUID()
    const refused = await this.#acquire(host, id)
    return refused ?? { permit: this.#permit(host, id) }
  }

  /**
   * A permit for a second host, or when `slot` is false a further request to a host that one is held for.
   * @throws TransientError when it would take too long; a FatalError as `ask`; an AbortError
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

  /** For how long a host has given no other answer than 429, in ms; 0 when it has, or while Redis is away. @throws FatalError as `ask` */
  async limitedMs(host: string): Promise<number> {
    const { redis, stream } = this.#options
    try {
      const [since, nowMs] = await Promise.all([redis.hGet(hostKey(stream, host), 'limitedSince'), redisTimeMs(redis)])
      // The clock may have gone back.
      return since === null ? 0 : Math.max(0, nowMs - Number(since))
    } catch (error) {
      const classified = classifyRedisError(error)
      if (!(classified instanceof TransientError)) throw classified
      return 0
    }
  }

  /** How often `renew` wants to be called. */
  get renewMs(): number {
    return this.#leaseMs / 3
  }

  /** Keeps the permits that are held. @throws TransientError */
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
    await runScript(redis, report, [hostKey(stream, host), slotsKey(stream, host)], [id, verdict, ...numbers, repo])
  }
}
