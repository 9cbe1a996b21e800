/**
 * Takes the accounts of a batch: one sorted upsert of `actor_sync`, which is at once the commit last seen, the lock that lets no two batches work on
 * the same account at the same moment, and the watermark of the last resync.
 *
 * Every unique key of every collection table contains the record's own account, so whoever holds the account can look first and insert then,
 * without ON CONFLICT.
 */
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Head } from './prepare.ts'

/**
 * Locks the accounts and moves their heads forward, never back. Returns the watermarks of resyncs, for accounts that have one.
 * `heads` must be sorted by DID: the order of locks.
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
  // Not before the accounts are owned: the end of a purge holds them too, and a statement that began before it would bring the account back.
  if (unseen.length > 0) {
    void tx.query(INSERT_ACTORS, [unseen.map((h) => h.did), unseen.map((h) => h.time), new Date().toISOString()])
  }
  let { rows } = await moved
  // A row that does not move is locked all the same, but not returned.
  if (rows[0]!.moved < heads.length) {
    rows = (await tx.query<(typeof rows)[0]>(WATERMARKS, [heads.map((h) => h.did)])).rows
  }
  return new Map(rows.flatMap(({ did, resyncRev }) => (did === null || resyncRev === null ? [] : [[did, resyncRev]])))
}

/**
 * A new actor's handle is to be verified. So is that of one which another indexer wrote before us, when its turn comes. Late events of an account that
 * was purged do not bring it back.
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

/** Returns the watermarks, and with each row how many accounts moved; nearly always that one row with no watermark. */
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
 * Accounts that surely have an `actor` row: saves one index probe an account and batch. A fixed number is remembered; an account that was forgotten
 * costs that probe again.
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

  /** Only after the transaction that made the rows is durable. */
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
}
