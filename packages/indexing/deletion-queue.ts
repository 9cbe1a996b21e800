/**
 * The durable queue of deletions that were reported. Whoever works it off confirms them, between a claim and a purge (`purge.ts`), while no connection is held.
 *
 * A claim is a time until which nobody else looks at the account. Who dies with it loses nothing: it is due again when the claim ends.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { Statement } from '@sluice/collections/define.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { oldestOf, overdueSeconds } from './overdue.ts'

/**
 * `reported` → confirmed → `purging` → `purged`; from any of them to `returned` when the account is heard of again.
 */
export type DeletionState = 'reported' | 'purging' | 'purged' | 'returned'

/** What is due, by who waits for it: accounts that are back; deletions that are to be confirmed and carried out; those that nobody has confirmed so far. */
export const DELETION_QUEUES = ['returned', 'new', 'failing'] as const
export type DeletionQueue = (typeof DELETION_QUEUES)[number]

/** An account whose deletion was reported, or one that is back. */
export interface DeletionClaim {
  did: string
  state: DeletionState
  deletedAt: string
  /** How often it could not be confirmed. */
  tries: number
}

/** Takes what is due, of one queue or of all, the longest overdue first; nobody else gets it before `until`. @throws TransientError, FatalError */
export async function claimDeletions(
  db: DatabasePool,
  { now, until, limit, queue }: { now: string; until: string; limit: number; queue?: DeletionQueue },
): Promise<DeletionClaim[]> {
  const { rows } = await transaction(db, { doing: 'claiming deletions' }, (tx) =>
    tx.query<DeletionClaim>(claim(queue), [now, until, limit]),
  )
  return rows
}

const OF_QUEUE: Record<DeletionQueue, string> = {
  returned: `state = 'returned'`,
  new: `state in ('reported', 'purging') and tries = 0`,
  failing: `state in ('reported', 'purging') and tries > 0`,
}

function claim(queue?: DeletionQueue): Statement {
  return {
    name: `claim-deletions-${queue ?? 'all'}`,
    text: `
      with due as (
        select did from account_deletion where ${queue ? OF_QUEUE[queue] : `state <> 'purged'`} and "dueAt" <= $1
        order by "dueAt" limit $3 for update skip locked
      )
      update account_deletion held set "dueAt" = $2 from due where ${keyed('held.did', 'due.did')}
      returning held.did, held.state, held."deletedAt", held.tries::int as tries`,
  }
}

/** How overdue each queue is, in seconds; 0: nothing is due. Reads one row of each. @throws TransientError, FatalError */
export async function overdueDeletions(db: Session, now: Date): Promise<Record<DeletionQueue, number>> {
  return overdueSeconds(db, { queues: DELETION_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = { name: 'oldest-deletions', text: oldestOf('account_deletion', OF_QUEUE) }

/** Ends a claim: it is due again at `dueAt`. */
export async function postponeDeletion(db: DatabasePool, did: string, dueAt: string): Promise<void> {
  await db.query(POSTPONE, [did, dueAt])
}

const POSTPONE = { name: 'postpone-deletion', text: `update account_deletion set "dueAt" = $2 where did = $1` }

/** Ends a claim that could not be confirmed: it is one of those that fail, and due again at `dueAt`. Not if the account came back meanwhile. */
export async function failDeletion(db: DatabasePool, did: string, dueAt: string): Promise<void> {
  await db.query(FAIL, [did, dueAt])
}

const FAIL = {
  name: 'fail-deletion',
  text: `update account_deletion set "dueAt" = $2, tries = tries + 1 where did = $1 and state <> 'returned'`,
}

/** Ends a claim of which nobody was asked, for want of room: it is due again at `dueAt` as what it was. Not if the account came back meanwhile. */
export async function returnDeletion(db: DatabasePool, did: string, dueAt: string): Promise<void> {
  await db.query(RETURN, [did, dueAt])
}

const RETURN = {
  name: 'return-deletion',
  text: `update account_deletion set "dueAt" = $2 where did = $1 and state <> 'returned'`,
}

/** After its repository has been asked for. */
export async function forgetDeletion(db: DatabasePool, did: string): Promise<void> {
  await db.query(FORGET, [did])
}

/** Written so that no index on the state can match. */
const FORGET = {
  name: 'forget-deletion',
  text: `delete from account_deletion where did = $1 and state || '' = 'returned'`,
}
