/**
 * What a cache of identities has to promise, and a cache in memory.
 *
 * A purge must beat a fill that began before it. For example: process A asks the directory, then an `#identity` event
 * makes process B purge the DID, then A stores its answer, which may be from before the change. So every DID has an
 * epoch. A purge raises it. A fill names the epoch that it read before it asked, and stores nothing when the epoch has
 * changed.
 */
import { remember } from '@sluice/runtime/remember.ts'
import type { Resolution } from './identity.ts'

export interface CachedResolution {
  resolution: Resolution
  /** Unix ms. */
  resolvedAt: number
}

export interface CacheRead {
  cached: CachedResolution | undefined
  /** To be passed to the `set` that follows. */
  epoch: number
}

export interface IdentityCache {
  get(did: string): Promise<CacheRead>
  /** Stores `value`, unless `did` was purged since `epoch` was read. Returns whether it was stored. */
  set(did: string, value: CachedResolution, epoch: number): Promise<boolean>
  /** Forgets the DID, and makes every fill that is under way void. */
  purge(did: string): Promise<void>
}

/**
 * Makes failures of a cache harmless: a failed `get` is a miss, and a failed `set` stores nothing. That costs only
 * time. A failed `purge` is an error.
 */
export function tolerant(cache: IdentityCache): IdentityCache {
  return {
    get: (did) => cache.get(did).catch(() => ({ cached: undefined, epoch: -1 })),
    set: (did, value, epoch) => cache.set(did, value, epoch).catch(() => false),
    purge: (did) => cache.purge(did),
  }
}

/**
 * A cache in memory. Beyond its capacity, the DID that was used least recently is evicted, with its epoch. When an
 * evicted DID comes back, it gets a new epoch, so a fill from before the eviction is void.
 */
export class MemoryIdentityCache implements IdentityCache {
  readonly #capacity: number
  readonly #entries = new Map<string, { cached: CachedResolution | undefined; epoch: number }>()
  /**
   * The highest epoch that was ever given. One counter for all DIDs, so an evicted DID cannot get an old epoch again.
   */
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
    remember(this.#entries, did, entry, this.#capacity)
  }
}
