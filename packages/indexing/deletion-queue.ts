/**
 * The durable queue of reported account deletions. Between a claim and a purge (`purge.ts`) whoever works on the queue
 * confirms the deletion, while no database connection is held.
 *
 * A claim is a time until which nobody else looks at the account. If its holder dies, nothing is lost: the account is
 * due again when the claim ends.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { Statement } from '@sluice/collections/depends.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { oldestOf, overdueSeconds } from './overdue.ts'

/**
 * Without trouble: `reported` → (confirmed) → `purging` → `purged`. From each of them to `returned` when another
 * account event arrives.
 */
export type DeletionState = 'reported' | 'purging' | 'purged' | 'returned'

/**
 * `returned`: accounts that are back. `new`: deletions to confirm and carry out. `failing`: deletions that nobody could
 * confirm so far.
 */
export const DELETION_QUEUES = ['returned', 'new', 'failing'] as const
export type DeletionQueue = (typeof DELETION_QUEUES)[number]

/** A claimed account: its deletion was reported, or it is back. */
export interface DeletionClaim {
  did: string
  state: DeletionState
  deletedAt: string
  /** How often the deletion could not be confirmed. */
  tries: number
}

/**
 * Takes what is due, of one queue or of all, the longest overdue first. Nobody else gets it before `until`.
 * @throws TransientError, FatalError
 */
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

/**
 * How many seconds each queue is overdue; 0: nothing is due. Reads one row of each queue.
 * @throws TransientError, FatalError
 */
export async function overdueDeletions(db: Session, now: Date): Promise<Record<DeletionQueue, number>> {
  return overdueSeconds(db, { queues: DELETION_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = { name: 'oldest-deletions', text: oldestOf('account_deletion', OF_QUEUE) }

/** Ends a claim: the account is due again at `dueAt`. */
export async function putOffDeletion(db: DatabasePool, did: string, dueAt: string): Promise<void> {
  await db.query(POSTPONE, [did, dueAt])
}

const POSTPONE = { name: 'postpone-deletion', text: `update account_deletion set "dueAt" = $2 where did = $1` }

/**
 * Ends a claim whose deletion could not be confirmed. The account goes to the queue `failing` and is due again at
 * `dueAt`. Does nothing if the account came back meanwhile.
 */
export async function failDeletion(db: DatabasePool, did: string, dueAt: string): Promise<void> {
  await db.query(FAIL, [did, dueAt])
}

const FAIL = {
  name: 'fail-deletion',
  text: `update account_deletion set "dueAt" = $2, tries = tries + 1 where did = $1 and state <> 'returned'`,
}

/**
 * Ends a claim for which no host was asked, for want of room. The account stays in its queue and is due again at
 * `dueAt`. Does nothing if it came back meanwhile.
 */
export async function giveBackDeletion(db: DatabasePool, did: string, dueAt: string): Promise<void> {
  await db.query(RETURN, [did, dueAt])
}

const RETURN = {
  name: 'return-deletion',
  text: `update account_deletion set "dueAt" = $2 where did = $1 and state <> 'returned'`,
}

/** Must be called after the account's repository has been asked for. */
export async function forgetDeletion(db: DatabasePool, did: string): Promise<void> {
  await db.query(FORGET, [did])
}

/** Written so that no index on the state can match: it names one account, and that has one row. */
const FORGET = {
  name: 'forget-deletion',
  text: `delete from account_deletion where did = $1 and state || '' = 'returned'`,
}
