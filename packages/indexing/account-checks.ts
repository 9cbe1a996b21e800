/**
 * The durable queue of accounts about whose status their own host is to be asked. `accounts.ts` enters an account when
 * an event says something else than the index holds. The times alone do not tell which of the two is newer, since
 * different clocks date them.
 *
 * A claim is a time until which nobody else asks. If its holder dies, nothing is lost: the account is due again when
 * the claim ends. Any account event that arrives meanwhile makes the claim void, and the host is asked again, since its
 * answer may be from before the event. So an answer is written only if it was asked for after all events that had
 * arrived. An event that arrives later and says something else asks anew. Therefore, when a host has changed its mind
 * for the last time and has announced it, the index ends with that status: whatever the clocks say, in any order of
 * arrival, however often events are delivered.
 *
 * An account that was asked about stays in the queue for an hour, with how often it was asked about: each question
 * doubles the wait for the next. A host that never answers is asked for ever, ever more rarely. To give up would leave
 * a wrong status wrong, and there is at most one row for each account.
 *
 * Locks: the account (`actor_sync`), then its row here, as in a batch. A claim waits for no lock.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { SEQ_BACKFILL, type AccountEvent } from '@sluice/events/stream-event.ts'
import { applyAccounts, HELD_STATUS, upstreamStatus } from './accounts.ts'
import { oldestOf, overdueSeconds } from './overdue.ts'

/**
 * `new`: accounts to ask about. `failing`: accounts whose host has given no answer so far. Accounts in a third state,
 * `asked`, only wait to be deleted from the queue.
 */
export const ACCOUNT_QUEUES = ['new', 'failing'] as const
export type AccountQueue = (typeof ACCOUNT_QUEUES)[number]

export interface AccountClaim {
  did: string
  /** Names the claim: the time until which it holds. */
  claim: string
  /** How often the account was asked about, including this time. */
  tries: number
}

/**
 * Takes what is due, the longest overdue first. Nobody else gets it before `until`.
 * @throws TransientError, FatalError
 */
export async function claimAccountChecks(
  db: DatabasePool,
  { now, until, limit, queue }: { now: string; until: string; limit: number; queue: AccountQueue },
): Promise<AccountClaim[]> {
  const { rows } = await transaction(db, { doing: 'claiming accounts to ask about' }, (tx) =>
    tx.query<AccountClaim>(CLAIM, [now, until, limit, queue]),
  )
  return rows
}

/**
 * Each claimed account becomes at most one row in the state `asked`, so deleting a hundred of those with each statement
 * keeps up.
 */
const CLAIM = {
  name: 'claim-account-checks',
  text: `
    with old as (
      select did from account_check where state = 'asked' and "dueAt" <= $1 order by "dueAt" limit 100 for update skip locked
    ), forgotten as (
      delete from account_check held using old where ${keyed('held.did', 'old.did')}
    ), due as (
      select did from account_check where state = $4 and "dueAt" <= $1 order by "dueAt" limit $3 for update skip locked
    )
    update account_check held set "dueAt" = $2, claim = $2, tries = tries + 1 from due where ${keyed('held.did', 'due.did')}
    returning held.did, held.claim, held.tries::int as tries`,
}

/**
 * How many seconds each queue is overdue; 0: nothing is due. Reads one row of each queue.
 * @throws TransientError, FatalError
 */
export async function overdueAccountChecks(db: Session, now: Date): Promise<Record<AccountQueue, number>> {
  return overdueSeconds(db, { queues: ACCOUNT_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = {
  name: 'oldest-account-checks',
  text: oldestOf('account_check', { new: `state = 'new'`, failing: `state = 'failing'` }),
}

/** `overtaken`: an event arrived after the question, or the claim has ended. The host is asked again. */
export type AccountCheckOutcome = 'as-held' | 'differs' | 'overtaken'

/**
 * Writes what an account's host says, whatever the index holds, and whatever time that has. The answer is dated after
 * the held status, so that the held status is the older one when its event is redelivered.
 * @throws TransientError, FatalError; RefusedError when PostgreSQL does not take the status
 */
export async function endAccountCheck(
  db: DatabasePool,
  { did, claim }: Pick<AccountClaim, 'did' | 'claim'>,
  said: Pick<AccountEvent, 'active' | 'status'>,
  askedAtMs: number,
): Promise<AccountCheckOutcome> {
  const forgetAt = new Date(Date.now() + REMEMBERED_MS).toISOString()
  return await transaction(db, { doing: 'writing how an account stands' }, async (tx) => {
    void tx.query(OWN, [did])
    if ((await tx.query(ANSWERED, [did, claim, forgetAt])).rowCount === 0) return 'overtaken'
    const { rows } = await tx.query<{ accountAt: string | null; status: string | null }>(HELD, [did])
    // Other tools may have written a text that is no date.
    const heldMs = Date.parse(rows[0]?.accountAt ?? '')
    const time = new Date(Number.isNaN(heldMs) ? askedAtMs : Math.max(askedAtMs, heldMs + 1)).toISOString()
    const event: AccountEvent = { type: 'account', seq: SEQ_BACKFILL, time, did, ...said }
    if (rows[0]?.status === upstreamStatus(event)) return 'as-held'
    void tx.query(FORGET_TIME, [did])
    applyAccounts(tx, { accounts: [event] })
    return 'differs'
  })
}

const REMEMBERED_MS = 3_600_000

const OWN = { name: 'own-asked', text: `select from actor_sync where did = $1 for update` }
const ANSWERED = {
  name: 'answered-account-check',
  text: `update account_check set state = 'asked', claim = null, "dueAt" = $3 where did = $1 and claim = $2`,
}
const HELD = {
  name: 'held-of-asked',
  text: `
    select sync."accountAt", ${HELD_STATUS} as status from actor_sync sync
      left join account_deletion gone on gone.did = sync.did
      left join actor on actor.did = sync.did
    where sync.did = $1`,
}
/** Makes the answer count as the first news of the account: so it wins over the held status, and is not doubted. */
const FORGET_TIME = { name: 'forget-account-time', text: `update actor_sync set "accountAt" = null where did = $1` }

/**
 * Ends a claim that the host did not answer. The account goes to `failing` and is due again at `dueAt`, or sooner when
 * another event arrives.
 */
export async function failAccountCheck(
  db: DatabasePool,
  { did, claim }: Pick<AccountClaim, 'did' | 'claim'>,
  dueAt: string,
): Promise<void> {
  await db.query(FAIL, [did, claim, dueAt])
}

const FAIL = {
  name: 'fail-account-check',
  text: `
    update account_check set state = 'failing', claim = null, "dueAt" = case when claim = $2 then $3 else "dueAt" end
    where did = $1 and state <> 'asked' and (claim = $2 or claim is null)`,
}

/**
 * Ends a claim for which no host was asked, for want of room. The account stays in its queue and is due again at
 * `dueAt`; this does not count as a question. Does nothing if an event arrived meanwhile.
 */
export async function giveBackAccountCheck(
  db: DatabasePool,
  { did, claim }: Pick<AccountClaim, 'did' | 'claim'>,
  dueAt: string,
): Promise<void> {
  await db.query(RETURN, [did, claim, dueAt])
}

const RETURN = {
  name: 'return-account-check',
  text: `update account_check set claim = null, "dueAt" = $3, tries = tries - 1 where did = $1 and claim = $2`,
}
