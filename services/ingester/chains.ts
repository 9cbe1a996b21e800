/**
 * The chain records of accounts, read from Redis for a whole batch at once. The latest are remembered here, because an
 * account that has just written will soon write again.
 */
import { remember } from '@sluice/runtime/remember.ts'
import { decodeChain, readChains, type StoredChain } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'

/**
 * How many records are remembered, of about 400 bytes each. When another process has moved one meanwhile, the append
 * fails, and the record is forgotten.
 */
const REMEMBERED = 20_000

export class Chains {
  readonly #redis: Redis
  /** Oldest first. */
  readonly #records = new Map<string, StoredChain>()

  constructor(redis: Redis) {
    this.#redis = redis
  }

  /**
   * The records of these accounts. Accounts without a record are unknown.
   * @throws TransientError
   */
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

  /** The newest durable rev of an account, if it is remembered. A commit that is not newer is a replay. */
  durableRev(did: string): string | undefined {
    return this.#records.get(did)?.record.rev
  }

  /** Notes that Redis holds these bytes now. */
  stored(did: string, bytes: Buffer): void {
    remember(this.#records, did, { record: decodeChain(bytes), bytes }, REMEMBERED)
  }

  forget(dids: Iterable<string>): void {
    for (const did of dids) this.#records.delete(did)
  }
}
