/**
 * The durable queue of accounts whose own host is to be asked how they stand. `accounts.ts` enters whoever is said to be something else than is held: the times alone do not
 * tell which of the two is newer, since different clocks date them.
 *
 * A claim is a time until which nobody else asks. Who dies with it loses nothing: it is due again when the claim ends. Whatever is said of the account meanwhile
 * makes the claim void, and it is asked about again, since the answer may be from before. So what is written was asked for after all that had come in, and whatever
 * comes in later and says something else asks anew: when a host has changed its mind for the last time and said so, the index ends with its word, whatever the
 * clocks say, in any order and however often.
 *
 * Whoever has been asked about stays for an hour, by how often: each question doubles the wait for the next. A host that never answers is asked for ever, ever more rarely:
 * to give up would leave wrong what it is wrong about, and there is one row an account at most.
 *
 * Locks: the account (`actor_sync`), then its row here, as in a batch. Claims wait for nobody.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { SEQ_BACKFILL, type AccountEvent } from '@sluice/events/stream-event.ts'
import { applyAccounts, HELD_STATUS, upstreamStatus } from './accounts.ts'
import { oldestOf, overdueSeconds } from './overdue.ts'

/** Those that are to be asked about, and those whose host gave no answer so far. A third state, `asked`, is of those that only wait to be forgotten. */
export const ACCOUNT_QUEUES = ['new', 'failing'] as const
export type AccountQueue = (typeof ACCOUNT_QUEUES)[number]

export interface AccountClaim {
  did: string
  /** Names the claim: until when it holds. */
  claim: string
  /** How often it was asked about, with this time. */
  tries: number
}

/** Takes what is due, the longest overdue first; nobody else gets it before `until`. @throws TransientError, FatalError */
export async function claimAccountChecks(
  db: DatabasePool,
  { now, until, limit, queue }: { now: string; until: string; limit: number; queue: AccountQueue },
): Promise<AccountClaim[]> {
  const { rows } = await transaction(db, { doing: 'claiming accounts to ask about' }, (tx) =>
    tx.query<AccountClaim>(CLAIM, [now, until, limit, queue]),
  )
  return rows
}

/** Each claim brings one row at most to those that are forgotten: a hundred at a time keep up. */
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

/** How overdue each queue is, in seconds; 0: nothing is due. Reads one row of each. @throws TransientError, FatalError */
export async function overdueAccountChecks(db: Session, now: Date): Promise<Record<AccountQueue, number>> {
  return overdueSeconds(db, { queues: ACCOUNT_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = {
  name: 'oldest-account-checks',
  text: oldestOf('account_check', { new: `state = 'new'`, failing: `state = 'failing'` }),
}

/** `overtaken`: something was said after the question, or the claim has ended; it is asked about again. */
export type CheckOutcome = 'as-held' | 'differs' | 'overtaken'

/**
 * Writes what an account's host says, whatever is held, and whenever that is said to have been. It is dated behind that, so that what was held is the older one when it
 * comes again.
 * @throws TransientError, FatalError; RefusedError when PostgreSQL does not take the status
 */
export async function settleAccountCheck(
  db: DatabasePool,
  { did, claim }: Pick<AccountClaim, 'did' | 'claim'>,
  said: Pick<AccountEvent, 'active' | 'status'>,
  askedAtMs: number,
): Promise<CheckOutcome> {
  const forgetAt = new Date(Date.now() + REMEMBERED_MS).toISOString()
  return await transaction(db, { doing: 'writing how an account stands' }, async (tx) => {
    void tx.query(OWN, [did])
    if ((await tx.query(ANSWERED, [did, claim, forgetAt])).rowCount === 0) return 'overtaken'
    const { rows } = await tx.query<{ accountAt: string | null; status: string | null }>(HELD, [did])
    // What other tools wrote there may be no time.
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
/** As the first news of an account: an answer beats whatever is held, and is not doubted. */
const FORGET_TIME = { name: 'forget-account-time', text: `update actor_sync set "accountAt" = null where did = $1` }

/** Ends a claim that nobody answered: it is one of those that fail, and due again at `dueAt`, or sooner when more is said. */
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

/** Ends a claim of which nobody was asked, for want of room: it is due again at `dueAt` as what it was, and that was no question. Not if more was said meanwhile. */
export async function returnAccountCheck(
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
