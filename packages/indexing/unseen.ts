/** What ran beside a transaction: two that run at the same time do not see each other. */
import type { Unseen } from '@sluice/collections/define.ts'
import type { Session } from '@sluice/database/pool.ts'

/** When a transaction began. */
export interface Began {
  /** The oldest transaction that was running. */
  oldest: string
  own: string
}

/** A transaction's first statement. */
export const BEGAN = {
  name: 'began',
  text: `select pg_snapshot_xmin(pg_current_snapshot())::text as oldest, pg_current_xact_id()::text as own`,
}

/** When no other transaction began, ended or ran between our beginning and now, nothing was unseen: always so with a single consumer. */
export async function whatElse(session: Session, { oldest, own }: Began): Promise<Unseen> {
  const { rows } = await session.query<{ next: string }>(NEXT)
  return oldest === own && BigInt(rows[0]!.next) === BigInt(own) + 1n ? 'nothing' : { since: oldest, own }
}

const NEXT = { name: 'next-xid', text: `select pg_snapshot_xmax(pg_current_snapshot())::text as next` }

/** What was running just now. */
export async function oldestNow(session: Session): Promise<string> {
  const { rows } = await session.query<{ oldest: string }>(OLDEST)
  return rows[0]!.oldest
}

const OLDEST = { name: 'oldest-xid', text: `select pg_snapshot_xmin(pg_current_snapshot())::text as oldest` }
