/**
 * What a cache of identities has to promise, and one in memory.
 *
 * A purge must beat a fill that started before it: `#identity` says that what somebody is just fetching may be old. So every
 * DID has an epoch, which a purge raises, and a fill names the epoch that it read before it asked.
 */
import type { Resolution } from './identity.ts'

export interface CachedResolution {
  resolution: Resolution
  /** Unix ms. */
  resolvedAt: number
}

export interface CacheRead {
  cached: CachedResolution | undefined
  /** To be named in the `set` that follows. */
  epoch: number
}

export interface IdentityCache {
  get(did: string): Promise<CacheRead>
  /** Stores, unless `did` was purged since `epoch` was read. Says whether it did. */
  set(did: string, value: CachedResolution, epoch: number): Promise<boolean>
  /** Forgets, and makes every fill that is under way void. */
  purge(did: string): Promise<void>
}

/** A cache that cannot be read is a miss, and what cannot be stored is not: that costs time only. A purge has to succeed. */
export function tolerant(cache: IdentityCache): IdentityCache {
  return {
    get: (did) => cache.get(did).catch(() => ({ cached: undefined, epoch: -1 })),
    set: (did, value, epoch) => cache.set(did, value, epoch).catch(() => false),
    purge: (did) => cache.purge(did),
  }
}

/** Least recently used goes first. An epoch is kept as long as its DID would be: the clock of the cache itself. */
export class MemoryIdentityCache implements IdentityCache {
  readonly #capacity: number
  readonly #entries = new Map<string, { cached: CachedResolution | undefined; epoch: number }>()
  /** Above every epoch that was ever given: an evicted DID cannot come back to an old one. */
  #epoch = 0

  constructor(capacity = 100_000) {
    this.#capacity = capacity
  }

  async get(did: string): Promise<CacheRead> {
    const entry = this.#entries.get(did) ?? { cached: undefined, epoch: ++this.#epoch }
    this.#touch(did, entry)
    return entry
  }

  async set(did: string, value: CachedResolution, epoch: number): Promise<boolean> {
    if (this.#entries.get(did)?.epoch !== epoch) return false
    this.#touch(did, { cached: value, epoch })
    return true
  }

  async purge(did: string): Promise<void> {
    this.#touch(did, { cached: undefined, epoch: ++this.#epoch })
  }

  #touch(did: string, entry: { cached: CachedResolution | undefined; epoch: number }): void {
    this.#entries.delete(did)
    this.#entries.set(did, entry)
    if (this.#entries.size > this.#capacity) this.#entries.delete(this.#entries.keys().next().value!)
  }
}
