/**
 * A cache of identities in Redis, shared by all daemons. It has the shape of the `IdentityCache` of packages/atproto.
 * Losing it costs time, not correctness.
 *
 * It is bounded twice: by age, and by a fixed number of slots. A DID has one slot, given by its hash; a DID that comes
 * later replaces the one that is in it. So the memory is known in advance. A time to live alone would not give that:
 * three million accounts are active on a day.
 *
 * A purge beats every fill that started before it, if that fill takes less than `PURGE_MEMORY_MS`. The purge gives the
 * slot a new epoch, and a fill counts only when it names the epoch of the slot. Example: a fill reads epoch 1 and asks
 * the directory; a purge sets epoch 2; the answer, which may be outdated, comes with epoch 1 and is not stored.
 */
import { classified, RedisFullError, type Redis } from './connection.ts'
import { fnv1a } from './fnv.ts'
import { runScript, scripts } from './scripts.ts'

export interface IdentityCacheOptions {
  redis: Redis
  /** The most identities that are kept; about 400 bytes each. */
  slots?: number
  /** How long an entry is kept. Whether it still counts as fresh is decided by its reader. */
  ttlMs?: number
}

export const IDENTITY_PREFIX = 'sluice:identity:'
const IDENTITY_SLOTS = 2 ** 18
const TTL_MS = 48 * 3_600_000
const PURGE_MEMORY_MS = 600_000

/** @typeParam V what is stored for a DID; JSON */
export class RedisIdentityCache<V> {
  readonly #redis: Redis
  readonly #slots: number
  readonly #ttlMs: number

  constructor({ redis, slots = IDENTITY_SLOTS, ttlMs = TTL_MS }: IdentityCacheOptions) {
    this.#redis = redis
    this.#slots = slots
    this.#ttlMs = ttlMs
  }

  /**
   * The stored value, and the epoch to name in the `set` that follows.
   * @throws TransientError
   */
  async get(did: string): Promise<{ cached: V | undefined; epoch: number }> {
    const held = await classified(this.#redis.get(this.#key(did)))
    if (held === null) return { cached: undefined, epoch: 0 }
    const [epoch = '0', holder, value = ''] = split(held)
    return { cached: holder === did && value !== '' ? (JSON.parse(value) as V) : undefined, epoch: Number(epoch) }
  }

  /**
   * Stores a value, unless the slot was purged since `epoch` was read. Returns whether it was stored.
   * @throws TransientError
   */
  async set(did: string, value: V, epoch: number): Promise<boolean> {
    const held = `${epoch} ${did} ${JSON.stringify(value)}`
    const args = [String(epoch), held, String(this.#ttlMs)]
    try {
      return (await classified(runScript(this.#redis, scripts.fillIdentity, [this.#key(did)], args))) === 1
    } catch (error) {
      if (error instanceof RedisFullError) return false
      throw error
    }
  }

  /**
   * Forgets the value, and invalidates every fill that is under way. Works in a full Redis too.
   * @throws TransientError
   */
  async purge(did: string): Promise<void> {
    const epoch = 1 + Math.floor(Math.random() * 2 ** 48)
    const args = [`${epoch} ${did} `, String(PURGE_MEMORY_MS)]
    await classified(runScript(this.#redis, scripts.purgeIdentity, [this.#key(did)], args))
  }

  #key(did: string): string {
    return IDENTITY_PREFIX + (fnv1a(did) % this.#slots).toString(36)
  }
}

/** Splits `epoch did value`; only the value may contain spaces. */
function split(held: string): string[] {
  const first = held.indexOf(' ')
  const second = held.indexOf(' ', first + 1)
  return [held.slice(0, first), held.slice(first + 1, second), held.slice(second + 1)]
}
