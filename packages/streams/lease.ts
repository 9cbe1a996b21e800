/**
 * At most one living process for each consumer name.
 *
 * Two processes with the same name would share one pending list and ack each other's entries. So the name is a lease in
 * Redis, which its process renews while it lives. A second process refuses to start, and says where the first one runs.
 * The lease of a dead process expires by itself. A process that was stopped (SIGSTOP), and wakes up after another has
 * taken its lease, ends.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { sleep } from '@sluice/runtime/backoff.ts'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { classified, type Redis } from './connection.ts'
import type { GroupAddress } from './entries.ts'
import { runScript, scripts } from './scripts.ts'

export interface LeaseOptions extends GroupAddress {
  redis: Redis
  ttlMs?: number
  signal: AbortSignal
}

const LEASE_TTL_MS = 10_000

export const leaseKey = ({ stream, group, consumer }: GroupAddress): string => `${stream}:lease:${group}:${consumer}`

export class Lease {
  readonly #options: LeaseOptions
  readonly #ttlMs: number
  readonly #token = randomUUID()

  constructor(options: LeaseOptions) {
    this.#options = options
    this.#ttlMs = options.ttlMs ?? LEASE_TTL_MS
  }

  /** The interval at which `renew` must be called. */
  get renewMs(): number {
    return this.#ttlMs / 3
  }

  /**
   * Takes the name. If the lease is held and nobody renews it, its holder died: this waits until the lease expires,
   * which takes at most its time to live.
   * @throws FatalError when a living process holds the lease
   */
  async take(): Promise<void> {
    let leastMs = Number.POSITIVE_INFINITY
    for (;;) {
      const held = await this.#try()
      if (!held) return
      if (held.remainingMs > leastMs) throw this.#collision(held.details)
      leastMs = held.remainingMs
      await sleep(Math.min(held.remainingMs, 250) + 10, this.#options.signal)
    }
  }

  /** Keeps the name. @throws FatalError when another process has taken it meanwhile. */
  async renew(): Promise<void> {
    const held = await this.#try()
    if (held) throw this.#collision(held.details)
  }

  /** Gives the name back, so that a successor need not wait. */
  async release(): Promise<void> {
    await runScript(this.#options.redis, scripts.release, [this.#key], [this.#token]).catch(() => {})
  }

  get #key(): string {
    return leaseKey(this.#options)
  }

  async #try(): Promise<{ details: string; remainingMs: number } | undefined> {
    const details = `${hostname()} pid ${process.pid}`
    const args = [this.#token, String(this.#ttlMs), details]
    const reply: unknown = await classified(runScript(this.#options.redis, scripts.lease, [this.#key], args))
    if (!Array.isArray(reply)) throw new TransientError('Redis: unexpected answer to a lease')
    return reply[0] === 1 ? undefined : { details: String(reply[1]), remainingMs: Number(reply[2]) }
  }

  #collision(holder: string): FatalError {
    const { stream, group, consumer } = this.#options
    return new FatalError(
      `consumer "${consumer}" of group ${group} on ${stream} is in use by ${holder}. Give this process another name (INDEXER_CONSUMER, BACKFILLER_CONSUMER), e.g. "two"`,
    )
  }
}
