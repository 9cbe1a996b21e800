/**
 * Picks random accounts of the index at the price of one look-up by key for each: no table is counted or read through,
 * however large the index is.
 *
 * A `did:plc` is a hash. So random keys of that form are spread over the accounts evenly, and the account that follows
 * a random key is a random account (up to the gap before it: of two accounts the one with the larger gap is picked more
 * often, which has nothing to do with what it holds). A `did:web` is never picked.
 */
import { randomBytes } from 'node:crypto'
import { base32 } from '@sluice/atproto/cid.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { isInShard, type Shard } from '@sluice/streams/spread.ts'

export interface SampleOptions {
  count: number
  /** Only accounts of this shard. */
  shard: Shard
  /** Makes a key to look for. */
  key?: () => string
}

const PLC = 'did:plc:'
/** 15 bytes are the 24 characters of a `did:plc`. */
const KEY_BYTES = 15
/**
 * Several keys may lead to one account. Of an index of ten times as many accounts as are wanted, one round finds nearly
 * all of them.
 */
const ROUNDS = 5
const PAGE = 1_000

/** @returns different accounts, as many as are wanted or as there are. @throws TransientError, FatalError */
export async function sampleAccounts(db: DatabasePool, options: SampleOptions): Promise<string[]> {
  const { count, shard, key = randomKey } = options
  const found = new Set<string>()
  const take = (dids: readonly string[]): void => {
    for (const did of dids) if (did.startsWith(PLC) && isInShard(did, shard) && found.size < count) found.add(did)
  }
  for (let round = 0; round < ROUNDS && found.size < count; round++) {
    const keys = Array.from({ length: (count - found.size) * shard.of }, key)
    const { rows } = await db.query<{ did: string }>(FOLLOWING, [keys])
    take(rows.map(({ did }) => did))
  }
  // An index of not many more accounts than are wanted: what is left is taken from a random one on, around the end.
  const start = key()
  for (let after = start, isAround = false; found.size < count;) {
    // Some of the next ones may have been found before, or be of another shard.
    const page = Math.min(PAGE, found.size + (count - found.size) * shard.of)
    const { rows } = await db.query<{ did: string }>(NEXT, [after, page])
    take(rows.map(({ did }) => did))
    const last = rows.at(-1)?.did ?? ''
    const isEnd = rows.length < page || !last.startsWith(PLC)
    if (isAround && (isEnd || last >= start)) break
    isAround ||= isEnd
    after = isEnd ? PLC : last
  }
  return [...found]
}

/** The multibase prefix makes place for that of the DID. */
function randomKey(): string {
  return PLC + base32(randomBytes(KEY_BYTES)).slice(1)
}

/** For each key the first account from it on. */
const FOLLOWING = {
  name: 'accounts-following',
  text: `
    select distinct found.did from unnest($1::text[]) as sought (did)
    cross join lateral (select did from actor_sync where actor_sync.did >= sought.did order by actor_sync.did limit 1) found`,
}

const NEXT = { name: 'accounts-next', text: 'select did from actor_sync where did > $1 order by did limit $2' }
