/** What ran beside a transaction: two transactions that run at the same time do not see each other. */
import type { Unseen } from '@sluice/collections/depends.ts'
import type { Session } from '@sluice/database/pool.ts'

/** A snapshot: everything that transactions before `next` wrote is visible, except what those in `running` wrote. */
export interface Moment {
  next: string
  running: string[]
}

/** The snapshot at the beginning of a transaction. */
export interface Began extends Moment {
  /** The oldest transaction that was running (xid). */
  oldest: string
  own: string
}

/** Savepoints have xids of their own, which `pg_snapshot_xip` does not list. No writer of records uses savepoints. */
const MOMENT = `pg_snapshot_xmax(pg_current_snapshot())::text as next, array(select pg_snapshot_xip(pg_current_snapshot())::text) as running`

/** Must be the first statement of a transaction. */
export const BEGAN = {
  name: 'began',
  text: `select pg_snapshot_xmin(pg_current_snapshot())::text as oldest, pg_current_xact_id()::text as own, ${MOMENT}`,
}

/**
 * What our transaction may not have seen. If no other transaction began, ended or ran between its beginning and now,
 * that is nothing. With a single consumer it is always so.
 */
export async function findUnseen(session: Session, { oldest, own }: Began): Promise<Unseen> {
  const { rows } = await session.query<{ next: string }>(NEXT)
  return oldest === own && BigInt(rows[0]!.next) === BigInt(own) + 1n ? 'nothing' : { since: oldest, own }
}

const NEXT = { name: 'next-xid', text: `select pg_snapshot_xmax(pg_current_snapshot())::text as next` }

/** The snapshot of this moment. */
export async function momentNow(session: Session): Promise<Moment> {
  const { rows } = await session.query<Moment>(NOW)
  return rows[0]!
}

const NOW = { name: 'moment', text: `select ${MOMENT}` }
