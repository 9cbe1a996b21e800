/** The chain records of the accounts at hand: read from Redis in one go, the latest remembered, since an account that has just written will soon write again. */
import { remember } from '@sluice/runtime/remember.ts'
import { decodeChain, readChains, type StoredChain } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'

/** About 400 bytes each. A record that somebody else moved meanwhile fails the append, and is forgotten then. */
const REMEMBERED = 20_000

export class Chains {
  readonly #redis: Redis
  /** Oldest first. */
  readonly #records = new Map<string, StoredChain>()

  constructor(redis: Redis) {
    this.#redis = redis
  }

  /** The records of these accounts; those that are not in it are unknown. @throws TransientError */
  async read(dids: Iterable<string>): Promise<Map<string, StoredChain>> {
    const found = new Map<string, StoredChain>()
    const missing: string[] = []
    for (const did of dids) {
      const known = this.#records.get(did)
      if (known) found.set(did, known)
      else missing.push(did)
    }
    const stored = await readChains(this.#redis, missing)
    for (const [i, chain] of stored.entries()) if (chain) found.set(missing[i]!, chain)
    return found
  }

  /** The newest rev of an account that is known to be durable, if it is remembered: what is not newer is a replay. */
  durableRev(did: string): string | undefined {
    return this.#records.get(did)?.record.rev
  }

  /** These bytes are in Redis now. */
  stored(did: string, bytes: Buffer): void {
    remember(this.#records, did, { record: decodeChain(bytes), bytes }, REMEMBERED)
  }

  forget(dids: Iterable<string>): void {
    for (const did of dids) this.#records.delete(did)
  }
}
