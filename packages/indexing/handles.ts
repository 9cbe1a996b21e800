/**
 * The durable queue of accounts whose handle is to be verified, and the only writer of `actor.handle`. What is asked of the network is asked elsewhere,
 * between a claim and its settling, while no connection is held.
 *
 * - A claim is a time until which nobody else looks at the account. Who dies with it loses nothing: it is due again when the claim ends.
 * - An identity event that arrives meanwhile makes the claim void, and the account is looked at again: what was found out may be from before it.
 * - An account that is not active keeps its handle until another has it: its host answers for none of its names, and it may come back.
 * - One handle belongs to one actor. The newest verification wins; the actor that had it loses it and is looked at again, as one whose check failed: two that
 *   take it from each other, by a name server that answers now with the one and now with the other, wait ever longer.
 *
 * Locks: one writer of handles at a time, then actors by DID, then their checks by DID.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import type { IdentityEvent } from '@sluice/events/stream-event.ts'
import { oldestOf, overdueSeconds } from './overdue.ts'

/** In this order they are served: new accounts and identity events, those whose check is old, those that failed. */
export const CHECK_QUEUES = ['new', 'again', 'failing'] as const
export type CheckQueue = (typeof CHECK_QUEUES)[number]

export interface HandleClaim {
  did: string
  queue: CheckQueue
  /** The time of the identity event that asked for it; empty: none did. */
  askedAt: string
  tries: number
  /** The account's DID document, when it was imported and no identity event has come: see `identity-import.ts`. */
  imported: unknown
  /** Names the claim: until when it holds. */
  until: string
}

/** What came of a claim. */
export interface HandleCheck {
  claim: HandleClaim
  /** `null`: the account has none that is verified. Absent: it could not be checked, and what it has stays. */
  handle?: string | null
  checkedAt: string
  /** When and among whom it is looked at next. */
  next: { queue: CheckQueue; dueAt: string; tries: number }
}

/** How many of each queue may be taken. */
export type Shares = Record<CheckQueue, number>

/** Takes what is due, the longest overdue first; what another process takes at this moment is passed over. @throws TransientError, FatalError */
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

/** How overdue each queue is, in seconds; 0: nothing is due. Reads one row of each. @throws TransientError, FatalError */
export async function overdueHandleChecks(db: Session, now: Date): Promise<Record<CheckQueue, number>> {
  return overdueSeconds(db, { queues: CHECK_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = {
  name: 'oldest-handle-checks',
  text: oldestOf('handle_check', { new: `queue = 'new'`, again: `queue = 'again'`, failing: `queue = 'failing'` }),
}

export interface Settled {
  /** Actors whose handle changed. */
  changed: number
  /** Actors that lost their handle to another. */
  dispossessed: number
  /** Claims that were void. */
  void: number
}

/** Writes what was found out, whole or not at all. @throws TransientError, RefusedError or FatalError */
export async function settleChecks(db: DatabasePool, checks: readonly HandleCheck[]): Promise<Settled> {
  if (checks.length === 0) return { changed: 0, dispossessed: 0, void: 0 }
  return await transaction(db, { doing: 'writing handles' }, async (tx) => {
    void tx.query(ONE_WRITER)
    const held = await tx.query<HeldActor>(LOCK_ACTORS, [
      checks.map(({ claim }) => claim.did),
      checks.flatMap(({ handle }) => handle ?? []),
    ])
    const hidden = new Set(held.rows.flatMap(({ did, upstreamStatus }) => (upstreamStatus === null ? [] : [did])))
    const valid = (await validChecks(tx, checks)).map((check) => (hidden.has(check.claim.did) ? lenient(check) : check))
    const { handles, dispossessed, takers } = decideHandles(
      valid,
      new Map(held.rows.map((row) => [row.did, row.handle])),
    )
    writeHandles(tx, handles, valid)
    const next = [...valid].sort((a, b) => (a.claim.did < b.claim.did ? -1 : 1))
    // Verified, and yet no reason to forget how often before.
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

function lenient(check: HandleCheck): HandleCheck {
  const { handle, ...unchecked } = check
  return handle === null ? unchecked : check
}

/** The handles of two actors that swap theirs change places in two transactions at the same moment: without this they would meet in a deadlock. */
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

/** Those whose claim still holds. */
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
 * What each actor's handle becomes, for those whose handle changes; who lost theirs to another and is to be looked at again; and to whom. Pure.
 * @param held the handles of the actors that were checked, and of those that have a handle which was verified for another
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
  const loses = (did: string, handle: string): void => {
    dispossessed.push(did)
    takers.push(owner.get(handle)!)
  }
  for (const { claim, handle } of checks) {
    if (handle === undefined) continue
    const owns = handle !== null && owner.get(handle) === claim.did
    wanted.set(claim.did, owns ? handle : null)
    if (handle !== null && !owns && held.has(claim.did)) loses(claim.did, handle)
  }
  const handles = new Map<string, string | null>()
  for (const [did, before] of held) {
    const after = wanted.get(did)
    if (after !== undefined) {
      if (after !== before) handles.set(did, after)
    } else if (before !== null && owner.has(before)) {
      handles.set(did, null)
      loses(did, before)
    }
  }
  return { handles, dispossessed: dispossessed.sort(), takers }
}

/** Those that change give up what they have first: handles may change places. */
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

/** As the AppView's indexer keeps it: the time of the event that asked for it; of a check without an event, when it was made. */
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

/** The first wait of an account that lost its handle to another; each time in a row doubles it, up to most of a day. */
const LOST_MS = 5_000
const LOST_DOUBLINGS = 14

/** When accounts that lost their handles are due again, by how often in a row nothing came of their checks. */
function dueByTries(nowMs: number): string[] {
  return Array.from({ length: LOST_DOUBLINGS + 1 }, (_, tries) => new Date(nowMs + LOST_MS * 2 ** tries).toISOString())
}

const LOOK_AGAIN = {
  name: 'look-again-at-handles',
  text: `
    update handle_check set queue = 'failing', "dueAt" = ($2::text[])[least(tries, ${LOST_DOUBLINGS}) + 1], tries = tries + 1
    where did = any($1::text[])`,
}

/** Puts the accounts of identity events in front. Statements are sent, not awaited; the accounts must be owned by the transaction. */
export function applyIdentities(tx: Transaction, identities: readonly IdentityEvent[]): void {
  const latest = new Map<string, string>()
  for (const { did, time } of identities) if (time > (latest.get(did) ?? '')) latest.set(did, time)
  if (latest.size === 0) return
  const asked = [...latest].sort(([a], [b]) => (a < b ? -1 : 1))
  void tx.query(ASK, [asked.map(([did]) => did), asked.map(([, time]) => time), new Date().toISOString()])
}

/**
 * An event that comes again asks for nothing, nor does one of an account that was purged. Failures are not forgotten, or events of a broken account would
 * be requests without end.
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
