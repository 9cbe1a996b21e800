/** What ran beside a transaction: two that run at the same time do not see each other. */
import type { Unseen } from '@sluice/collections/define.ts'
import type { Session } from '@sluice/database/pool.ts'

/** What one sees at a moment: all that transactions before `next` wrote, but for those that were running. */
export interface Moment {
  next: string
  running: string[]
}

/** When a transaction began. */
export interface Began extends Moment {
  /** The oldest transaction that was running. */
  oldest: string
  own: string
}

/** Savepoints have ids of their own, which are not told: nobody who writes records makes any. */
const MOMENT = `pg_snapshot_xmax(pg_current_snapshot())::text as next, array(select pg_snapshot_xip(pg_current_snapshot())::text) as running`

/** A transaction's first statement. */
export const BEGAN = {
  name: 'began',
  text: `select pg_snapshot_xmin(pg_current_snapshot())::text as oldest, pg_current_xact_id()::text as own, ${MOMENT}`,
}

/** When no other transaction began, ended or ran between our beginning and now, nothing was unseen: always so with a single consumer. */
export async function findUnseen(session: Session, { oldest, own }: Began): Promise<Unseen> {
  const { rows } = await session.query<{ next: string }>(NEXT)
  return oldest === own && BigInt(rows[0]!.next) === BigInt(own) + 1n ? 'nothing' : { since: oldest, own }
}

const NEXT = { name: 'next-xid', text: `select pg_snapshot_xmax(pg_current_snapshot())::text as next` }

/** This moment. */
export async function momentNow(session: Session): Promise<Moment> {
  const { rows } = await session.query<Moment>(NOW)
  return rows[0]!
}

const NOW = { name: 'moment', text: `select ${MOMENT}` }
