/**
 * Takes the accounts of a batch with one sorted upsert of `actor_sync`. The row of an account there serves three
 * purposes: it holds the commit last seen; its lock keeps two batches from working on one account at the same moment;
 * and it holds the watermark of the last resync.
 *
 * Every unique key of every collection table contains the record's own account. So whoever holds the account's lock can
 * first look and then insert, without ON CONFLICT.
 */
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Head } from './prepare.ts'

/**
 * Locks the accounts and moves their heads forward, never back. Returns the resync watermarks, by DID, of accounts that
 * have one. `heads` must be sorted by DID: the order of locks.
 */
export async function ownAccounts(
  tx: Transaction,
  heads: readonly Head[],
  known: KnownActors,
): Promise<Map<string, string>> {
  const moved = tx.query<{ did: string | null; resyncRev: string | null; moved: number }>(OWN, [
    heads.map((h) => h.did),
    heads.map((h) => h.commit ?? ''),
    heads.map((h) => h.rev ?? null),
    heads.map((h) => h.resyncRev ?? null),
  ])
  const unseen = heads.filter(({ did }) => !known.has(did))
  // This statement must be sent after the one that locks the accounts. The end of a purge holds the account's lock too;
  // a statement with a snapshot from before that end would insert the purged account again.
  if (unseen.length > 0) {
    void tx.query(INSERT_ACTORS, [unseen.map((h) => h.did), unseen.map((h) => h.time), new Date().toISOString()])
  }
  let { rows } = await moved
  // A row that does not move is locked all the same, but the upsert does not return it.
  if (rows[0]!.moved < heads.length) {
    rows = (await tx.query<(typeof rows)[0]>(WATERMARKS, [heads.map((h) => h.did)])).rows
  }
  return new Map(rows.flatMap(({ did, resyncRev }) => (did === null || resyncRev === null ? [] : [[did, resyncRev]])))
}

/**
 * A new actor's handle is queued for verification. So is the handle of an actor that another indexer wrote before us,
 * but in the queue `again`, behind the new ones. Late events of an account that was purged do not bring it back.
 */
const INSERT_ACTORS = {
  name: 'insert-actors',
  text: `
    with seen as (
      select * from unnest($1::text[], $2::text[]) as seen (did, at)
      where (select state from account_deletion gone where gone.did = seen.did) is distinct from 'purged'
    ), made as (
      insert into actor (did, "indexedAt") select did, at from seen on conflict (did) do nothing
    )
    insert into handle_check (did, queue, "dueAt", "askedAt", tries)
    select did, case when (select handle from actor where actor.did = seen.did) is not null then 'again' else 'new' end,
      $3, '', 0
    from seen on conflict (did) do nothing`,
}

/**
 * Returns the watermarks of the rows that moved, and in each row how many rows moved. Nearly always the result is a
 * single row without a watermark.
 */
const OWN = {
  name: 'own-accounts',
  text: `
    with moved as (
      insert into actor_sync as held (did, "commitCid", "repoRev", "resyncRev")
      select * from unnest($1::text[], $2::text[], $3::text[], $4::text[])
      on conflict (did) do update set
        "commitCid" = case when excluded."repoRev" > coalesce(held."repoRev", '') then excluded."commitCid" else held."commitCid" end,
        "repoRev" = greatest(held."repoRev", excluded."repoRev"),
        "resyncRev" = greatest(held."resyncRev", excluded."resyncRev")
      where excluded."repoRev" > coalesce(held."repoRev", '') or excluded."resyncRev" > coalesce(held."resyncRev", '')
      returning did, "resyncRev"
    )
    select did, "resyncRev", total.moved
    from (select count(*)::int as moved from moved) total left join moved on moved."resyncRev" is not null`,
}

const WATERMARKS = {
  name: 'watermarks',
  text: `select did, "resyncRev" from actor_sync where did = any($1::text[]) and "resyncRev" is not null`,
}

/**
 * Accounts that are known to have an `actor` row. Saves one index probe for each account and batch. The number
 * remembered is limited; an account that was forgotten costs the probe again.
 *
 * Another session may lead to another server: after a failover to a standby that lacked the last transactions, what was
 * known is not true any more. So whoever owns the pool calls `forgetAll` for each new session.
 */
export class KnownActors {
  readonly #max: number
  #recent = new Set<string>()
  #older = new Set<string>()

  constructor(max = 200_000) {
    this.#max = max
  }

  has(did: string): boolean {
    return this.#recent.has(did) || this.#older.has(did)
  }

  /** Must be called only after the transaction that made the rows is durable. */
  add(dids: Iterable<string>): void {
    for (const did of dids) {
      if (this.#recent.size >= this.#max / 2) {
        this.#older = this.#recent
        this.#recent = new Set()
      }
      this.#recent.add(did)
    }
  }

  forget(did: string): void {
    this.#recent.delete(did)
    this.#older.delete(did)
  }

  forgetAll(): void {
    this.#recent = new Set()
    this.#older = new Set()
  }
}
