/**
 * The durable queue of accounts whose handle is to be verified, and the only writer of `actor.handle`. The network is
 * asked elsewhere, between the claim and the settling of a check, while no database connection is held.
 *
 * - A claim is a time until which nobody else looks at the account. If its holder dies, nothing is lost: the account is
 *   due again when the claim ends.
 * - An identity event that arrives meanwhile makes the claim void, and the account is checked again: the result may be
 *   from before the event.
 * - An account that is not active keeps its handle until another account has it: its host answers for none of its
 *   handles, and the account may come back.
 * - A handle belongs to one actor. The newest verification wins. The actor that had the handle noteLoss it and is checked
 *   again, as one whose check failed. So two actors that take a handle from each other (because a name server answers
 *   now with the one and now with the other) wait ever longer.
 *
 * Locks: one writer of handles at a time, then actors by DID, then their checks by DID.
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
export const CHECK_QUEUES = ['new', 'again', 'failing'] as const
export type CheckQueue = (typeof CHECK_QUEUES)[number]

export interface HandleClaim {
  did: string
  queue: CheckQueue
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
  next: { queue: CheckQueue; dueAt: string; tries: number }
}

/** How many accounts may be taken from each queue. */
export type Shares = Record<CheckQueue, number>

/**
 * Takes what is due, the longest overdue first. Accounts that another process takes at this moment are passed over.
 * @throws TransientError, FatalError
 */
export async function claimChecks(
  db: DatabasePool,
  { now, until, shares }: { now: string; until: string; shares: Shares },
): Promise<HandleClaim[]> {
  const limits = CHECK_QUEUES.map((queue) => Math.max(0, shares[queue]))
  const { rows } = await transaction(db, { doing: 'claiming handle checks' }, (tx) =>
    tx.query<Omit<HandleClaim, 'until'>>(CLAIM, [now, until, ...limits]),
  )
  return rows
    .map((row) => ({ ...row, until }))
    .sort((a, b) => CHECK_QUEUES.indexOf(a.queue) - CHECK_QUEUES.indexOf(b.queue))
}

const CLAIM = {
  name: 'claim-handle-checks',
  text: `
    with ${CHECK_QUEUES.map(
      (queue, i) => `
    "${queue}" as (
      select did from handle_check where queue = '${queue}' and "dueAt" <= $1
      order by "dueAt" limit $${i + 3} for update skip locked
    )`,
    ).join(',')},
    due as (${CHECK_QUEUES.map((queue) => `select did from "${queue}"`).join(' union all ')})
    update handle_check held set "dueAt" = $2 from due where ${keyed('held.did', 'due.did')}
    returning held.did, held.queue, held."askedAt", held.tries,
      case when held.queue = 'new' and held."askedAt" = '' then (select doc from did_cache where did_cache.did = held.did) end as imported`,
}

/**
 * How many seconds each queue is overdue; 0: nothing is due. Reads one row of each queue.
 * @throws TransientError, FatalError
 */
export async function overdueHandleChecks(db: Session, now: Date): Promise<Record<CheckQueue, number>> {
  return overdueSeconds(db, { queues: CHECK_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = {
  name: 'oldest-handle-checks',
  text: oldestOf('handle_check', { new: `queue = 'new'`, again: `queue = 'again'`, failing: `queue = 'failing'` }),
}

export interface EndedChecks {
  /** Actors whose handle changed. */
  changed: number
  /** Actors that lost their handle to another. */
  dispossessed: number
  /** Claims that were void. */
  void: number
}

/**
 * Writes the results of checks, all or nothing.
 * @throws TransientError, RefusedError or FatalError
 */
export async function endChecks(db: DatabasePool, checks: readonly HandleCheck[]): Promise<EndedChecks> {
  if (checks.length === 0) return { changed: 0, dispossessed: 0, void: 0 }
  return await transaction(db, { doing: 'writing handles' }, async (tx) => {
    void tx.query(ONE_WRITER)
    const held = await tx.query<HeldActor>(LOCK_ACTORS, [
      checks.map(({ claim }) => claim.did),
      checks.flatMap(({ handle }) => handle ?? []),
    ])
    const hidden = new Set(held.rows.flatMap(({ did, upstreamStatus }) => (upstreamStatus === null ? [] : [did])))
    const valid = (await validChecks(tx, checks)).map((check) =>
      hidden.has(check.claim.did) ? keepingHandle(check) : check,
    )
    const { handles, dispossessed, takers } = decideHandles(
      valid,
      new Map(held.rows.map((row) => [row.did, row.handle])),
    )
    writeHandles(tx, handles, valid)
    const next = [...valid].sort((a, b) => (a.claim.did < b.claim.did ? -1 : 1))
    // These were verified, but the handle is contested between them: so their `tries` are not reset.
    const contested = new Set([...dispossessed, ...takers])
    void tx.query(RESCHEDULE, [
      next.map(({ claim }) => claim.did),
      next.map((check) => check.next.queue),
      next.map((check) => check.next.dueAt),
      next.map((check) => (contested.has(check.claim.did) ? check.claim.tries : check.next.tries)),
    ])
    if (dispossessed.length > 0) void tx.query(LOOK_AGAIN, [dispossessed, dueByTries(Date.now())])
    return { changed: handles.size, dispossessed: dispossessed.length, void: checks.length - valid.length }
  })
}

interface HeldActor {
  did: string
  handle: string | null
  upstreamStatus: string | null
}

/** The result for a hidden account: that no handle was verified says nothing about it. */
function keepingHandle(check: HandleCheck): HandleCheck {
  const { handle, ...unchecked } = check
  return handle === null ? unchecked : check
}

/**
 * Two actors may swap their handles, each in a transaction of its own at the same moment. Without this lock the two
 * transactions would deadlock.
 */
const ONE_WRITER = { name: 'one-writer-of-handles', text: `select pg_advisory_xact_lock(hashtext('sluice handles'))` }

const LOCK_ACTORS = {
  name: 'lock-actors-by-handle',
  text: `
    select held.did, held.handle, held."upstreamStatus" from (
      select distinct did from (
        select unnest($1::text[]) as did union all select did from actor where handle = any($2::text[]) offset 0
      ) either order by did
    ) named cross join lateral (
      select did, handle, "upstreamStatus" from actor where did = named.did offset 0 for update
    ) held`,
}

/** The checks whose claim still holds. */
async function validChecks(tx: Transaction, checks: readonly HandleCheck[]): Promise<HandleCheck[]> {
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
 * Decides what each actor's handle becomes. `handles`: the actors whose handle changes. `dispossessed`: those that lost
 * a handle to another actor and are checked again. `takers`: the actors that took one. Pure.
 * @param held by DID, the handles of the actors that were checked, and of those that have a handle which was verified
 * for another
 */
function decideHandles(
  checks: readonly HandleCheck[],
  held: ReadonlyMap<string, string | null>,
): { handles: Map<string, string | null>; dispossessed: string[]; takers: string[] } {
  const owner = new Map<string, string>()
  for (const { claim, handle } of [...checks].sort((a, b) => (a.checkedAt < b.checkedAt ? -1 : 1))) {
    if (typeof handle === 'string' && held.has(claim.did)) owner.set(handle, claim.did)
  }
  const wanted = new Map<string, string | null>()
  const dispossessed: string[] = []
  const takers: string[] = []
  const noteLoss = (did: string, handle: string): void => {
    dispossessed.push(did)
    takers.push(owner.get(handle)!)
  }
  for (const { claim, handle } of checks) {
    if (handle === undefined) continue
    const owns = handle !== null && owner.get(handle) === claim.did
    wanted.set(claim.did, owns ? handle : null)
    if (handle !== null && !owns && held.has(claim.did)) noteLoss(claim.did, handle)
  }
  const handles = new Map<string, string | null>()
  for (const [did, before] of held) {
    const after = wanted.get(did)
    if (after !== undefined) {
      if (after !== before) handles.set(did, after)
    } else if (before !== null && owner.has(before)) {
      handles.set(did, null)
      noteLoss(did, before)
    }
  }
  return { handles, dispossessed: dispossessed.sort(), takers }
}

/** All actors whose handle changes give up the old one first, since two may swap their handles. */
function writeHandles(
  tx: Transaction,
  handles: ReadonlyMap<string, string | null>,
  checks: readonly HandleCheck[],
): void {
  if (handles.size > 0) void tx.query(CLEAR, [[...handles.keys()].sort()])
  const checked = checks.filter(({ handle }) => handle !== undefined)
  if (checked.length === 0) return
  const rows = checked.sort((a, b) => (a.claim.did < b.claim.did ? -1 : 1))
  void tx.query(SET, [
    rows.map(({ claim }) => claim.did),
    rows.map(({ claim }) => handles.get(claim.did) ?? null),
    rows.map(indexedAt),
  ])
}

/**
 * `actor.indexedAt`, as the AppView's indexer writes it. For a check that an identity event asked for: the time of the
 * event. For a repeated check (`again`): when the check was made. For other checks: '', which leaves the stored time.
 */
function indexedAt({ claim, checkedAt }: HandleCheck): string {
  if (claim.askedAt !== '' && claim.queue === 'new') return claim.askedAt
  return claim.queue === 'again' ? checkedAt : ''
}

const CLEAR = { name: 'clear-handles', text: `update actor set handle = null where did = any($1::text[])` }
const SET = {
  name: 'set-handles',
  text: `
    update actor set handle = coalesce(news.handle, actor.handle), "indexedAt" = greatest(actor."indexedAt", news.at)
    from unnest($1::text[], $2::text[], $3::text[]) as news (did, handle, at)
    where ${keyed('actor.did', 'news.did')} and (news.handle is not null or news.at > actor."indexedAt")`,
}

const RESCHEDULE = {
  name: 'reschedule-handle-checks',
  text: `
    update handle_check held set queue = news.queue, "dueAt" = news.due, tries = news.tries
    from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as news (did, queue, due, tries)
    where ${keyed('held.did', 'news.did')}`,
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
