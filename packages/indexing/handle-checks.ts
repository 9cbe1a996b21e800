/**
 * The durable queue of accounts whose handle is to be verified (`handle_check`). The network is asked elsewhere,
 * between the claim and the end of a check (`endHandleChecks` in `handles.ts`), while no database connection is held.
 *
 * - A claim is a time until which nobody else looks at the account. If its holder dies, nothing is lost: the account is
 *   due again when the claim ends.
 * - An identity event that arrives meanwhile makes the claim void, and the account is checked again: the result may be
 *   from before the event.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import type { IdentityEvent } from '@sluice/events/stream-event.ts'
import { oldestOf, overdueSeconds } from './overdue.ts'

/**
 * In the order in which they are served. `new`: new accounts and identity events. `again`: accounts whose last check is
 * old. `failing`: accounts whose check failed.
 */
export const HANDLE_QUEUES = ['new', 'again', 'failing'] as const
export type HandleQueue = (typeof HANDLE_QUEUES)[number]

export interface HandleClaim {
  did: string
  queue: HandleQueue
  /** The time of the identity event that asked for the check; empty if none did. */
  askedAt: string
  tries: number
  /** The account's DID document, if it was imported and no identity event has come since (`identity-import.ts`). */
  imported: unknown
  /** Names the claim: the time until which it holds. */
  until: string
}

/** The result of a claim. */
export interface HandleCheck {
  claim: HandleClaim
  /** `null`: the account has no verified handle. Absent: it could not be checked, and keeps the handle that it has. */
  handle?: string | null
  checkedAt: string
  /** When, and from which queue, the account is checked next. */
  next: { queue: HandleQueue; dueAt: string; tries: number }
}

/** How many accounts may be taken from each queue. */
export type Shares = Record<HandleQueue, number>

/**
 * Takes what is due, the longest overdue first. Accounts that another process takes at this moment are passed over.
 * @throws TransientError, FatalError
 */
export async function claimHandleChecks(
  db: DatabasePool,
  { now, until, shares }: { now: string; until: string; shares: Shares },
): Promise<HandleClaim[]> {
  const limits = HANDLE_QUEUES.map((queue) => Math.max(0, shares[queue]))
  const { rows } = await transaction(db, { doing: 'claiming handle checks' }, (tx) =>
    tx.query<Omit<HandleClaim, 'until'>>(CLAIM, [now, until, ...limits]),
  )
  return rows
    .map((row) => ({ ...row, until }))
    .sort((a, b) => HANDLE_QUEUES.indexOf(a.queue) - HANDLE_QUEUES.indexOf(b.queue))
}

const CLAIM = {
  name: 'claim-handle-checks',
  text: `
    with ${HANDLE_QUEUES.map(
      (queue, i) => `
    "${queue}" as (
      select did from handle_check where queue = '${queue}' and "dueAt" <= $1
      order by "dueAt" limit $${i + 3} for update skip locked
    )`,
    ).join(',')},
    due as (${HANDLE_QUEUES.map((queue) => `select did from "${queue}"`).join(' union all ')})
    update handle_check held set "dueAt" = $2 from due where ${keyed('held.did', 'due.did')}
    returning held.did, held.queue, held."askedAt", held.tries,
      case when held.queue = 'new' and held."askedAt" = '' then (select doc from did_cache where did_cache.did = held.did) end as imported`,
}

/**
 * How many seconds each queue is overdue; 0: nothing is due. Reads one row of each queue.
 * @throws TransientError, FatalError
 */
export async function overdueHandleChecks(db: Session, now: Date): Promise<Record<HandleQueue, number>> {
  return overdueSeconds(db, { queues: HANDLE_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = {
  name: 'oldest-handle-checks',
  text: oldestOf('handle_check', { new: `queue = 'new'`, again: `queue = 'again'`, failing: `queue = 'failing'` }),
}

/**
 * Puts the accounts of identity events into the queue `new`. Statements are sent, not awaited. The transaction must own
 * the accounts.
 */
export function applyIdentities(tx: Transaction, identities: readonly IdentityEvent[]): void {
  const latest = new Map<string, string>()
  for (const { did, time } of identities) if (time > (latest.get(did) ?? '')) latest.set(did, time)
  if (latest.size === 0) return
  const asked = [...latest].sort(([a], [b]) => (a < b ? -1 : 1))
  void tx.query(ASK, [asked.map(([did]) => did), asked.map(([, time]) => time), new Date().toISOString()])
}

/**
 * A redelivered event asks for nothing, nor does an event of a purged account. `tries` is kept: otherwise each event of
 * an account that cannot be verified would cause requests without end.
 */
const ASK = {
  name: 'ask-for-handle-checks',
  text: `
    insert into handle_check as held (did, queue, "dueAt", "askedAt", tries)
    select did, 'new', $3, at, 0 from unnest($1::text[], $2::text[]) as event (did, at)
    where (select true from actor where did = event.did)
    on conflict (did) do update set queue = 'new', "dueAt" = excluded."dueAt", "askedAt" = excluded."askedAt"
    where held."askedAt" < excluded."askedAt"`,
}

/**
 * The checks whose claim still holds. Locks the rows of these claims until the transaction ends.
 * @throws TransientError, RefusedError or FatalError
 */
export async function validHandleChecks(tx: Transaction, checks: readonly HandleCheck[]): Promise<HandleCheck[]> {
  const { rows } = await tx.query<{ did: string }>(LOCK_CLAIMS, [
    checks.map(({ claim }) => claim.did),
    checks.map(({ claim }) => claim.until),
  ])
  const valid = new Set(rows.map(({ did }) => did))
  return checks.filter(({ claim }) => valid.has(claim.did))
}

const LOCK_CLAIMS = {
  name: 'lock-handle-claims',
  text: `
    select held.did from handle_check held join unnest($1::text[], $2::text[]) as claim (did, until)
      on ${keyed('held.did', 'claim.did')} and held."dueAt" = claim.until
    order by claim.did for update of held`,
}

/**
 * Ends the claims of these checks: each account is due again when its check says so. Sent, not awaited.
 * @param contested accounts that were verified for a handle which another account has or had too; their `tries` are not
 * reset
 */
export function reschedule(tx: Transaction, checks: readonly HandleCheck[], contested: ReadonlySet<string>): void {
  const next = [...checks].sort((a, b) => (a.claim.did < b.claim.did ? -1 : 1))
  void tx.query(RESCHEDULE, [
    next.map(({ claim }) => claim.did),
    next.map((check) => check.next.queue),
    next.map((check) => check.next.dueAt),
    next.map((check) => (contested.has(check.claim.did) ? check.claim.tries : check.next.tries)),
  ])
}

const RESCHEDULE = {
  name: 'reschedule-handle-checks',
  text: `
    update handle_check held set queue = news.queue, "dueAt" = news.due, tries = news.tries
    from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as news (did, queue, due, tries)
    where ${keyed('held.did', 'news.did')}`,
}

/** Puts accounts that lost their handle to another into the queue `failing`. Sent, not awaited. */
export function lookAgain(tx: Transaction, dids: readonly string[]): void {
  if (dids.length > 0) void tx.query(LOOK_AGAIN, [dids, dueByTries(Date.now())])
}

/**
 * The first wait of an account that lost its handle to another. Each further loss in a row doubles the wait, up to most
 * of a day.
 */
const LOST_MS = 5_000
const LOST_DOUBLINGS = 14

/** When an account that lost its handle is due again. The index is how often in a row its checks came to nothing. */
function dueByTries(nowMs: number): string[] {
  return Array.from({ length: LOST_DOUBLINGS + 1 }, (_, tries) => new Date(nowMs + LOST_MS * 2 ** tries).toISOString())
}

const LOOK_AGAIN = {
  name: 'look-again-at-handles',
  text: `
    update handle_check set queue = 'failing', "dueAt" = ($2::text[])[least(tries, ${LOST_DOUBLINGS}) + 1], tries = tries + 1
    where did = any($1::text[])`,
}
