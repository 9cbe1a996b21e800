/**
 * The durable queue of records on which more depends than a batch has the time to settle (`settle.ts`), and the work on
 * it: all that depends on such a record is derived again, as if none of it had been.
 *
 * A claim is a time (`dueAt`) until which nobody else takes the record. Whoever works on the record extends it. If they
 * die, nothing is lost: the record is due again when the claim ends, and is settled from the beginning.
 *
 * If the record is put off again while somebody works on it, that waits in the column `since`, beside the claim, and is
 * looked at after the claim ends. So if a stranger edits a post each second, the replies below it are judged as often
 * as that work takes, not once for each edit. The column `working` holds the `since` that the claim took.
 *
 * If there is too much for one claim, it names other records from which to go on and puts them off (`deriveOnward`). It
 * does so before it ends: if it dies in between, its record begins anew.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import { type Beyond, type Statement, type Touched } from '@sluice/collections/depends.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { deriveOnward, ONWARD_LIMITS, type OnwardLimits } from './derive-onward.ts'
import { loadEntries } from './entry.ts'
import { findAffected } from './find-affected.ts'
import { oldestOf, overdueSeconds } from './overdue.ts'
import { Seen } from './seen.ts'
import { sqlOf } from './sql.ts'
import { momentNow } from './unseen.ts'

/**
 * `first`: records that wait for the first time. `again`: records that were put off again while somebody worked on
 * them, that a claim left to others, or whose claim ended because its holder died.
 */
export const LATER_QUEUES = ['first', 'again'] as const
export type LaterQueue = (typeof LATER_QUEUES)[number]

/**
 * Enters these records into the queue, or adds to what is to be done for records that are in it. Durable when it
 * resolves.
 * @param tries the `tries` of the claim that leaves these records to others; default: no claim has begun on them
 * @throws TransientError, FatalError
 */
export async function putOff(
  db: DatabasePool,
  beyond: readonly Beyond[],
  { dueAt = new Date().toISOString(), tries = 0 }: { dueAt?: string; tries?: number } = {},
): Promise<void> {
  for (let at = 0; at < beyond.length; at += PUT_OFF_MAX) {
    const part = beyond.slice(at, at + PUT_OFF_MAX)
    await transaction(db, { doing: 'putting off what is to be settled' }, (tx) =>
      tx.query(PUT_OFF, [part.map(({ uri }) => uri), part.map(({ since }) => since), dueAt, tries]),
    )
  }
}

const PUT_OFF_MAX = 10_000

/**
 * Sorted by URI, so that two indexers cannot deadlock. If a claim leaves behind a record whose own claim is under way,
 * the record's `tries` is raised above that of the leaving claim. If it is then higher than the record's own claim
 * took, that claim knows that something was left behind (`AGAIN`).
 */
const PUT_OFF = {
  name: 'put-off',
  text: `
    insert into settle_later as held (uri, since, "dueAt", tries)
    select uri, min(since), $3, $4::bigint from unnest($1::text[], $2::text[]) as beyond (uri, since) group by uri order by uri
    on conflict (uri) do update set since = least(held.since, excluded.since),
      "dueAt" = case when held.claim is null and excluded.tries = 0 then least(held."dueAt", excluded."dueAt") else held."dueAt" end,
      tries = case when held.claim is not null and excluded.tries > 0 then greatest(held.tries, excluded.tries + 1) else held.tries end`,
}

export interface LaterClaim extends Beyond {
  /** Names the claim: the time until which it holds at first. */
  claim: string
  /** How many claims there have been for this work, including this one and those that left it behind. */
  tries: number
}

/**
 * Takes what is due, the longest overdue first. Nobody else gets it before `until`.
 * @throws TransientError, FatalError
 */
export async function claimLater(
  db: DatabasePool,
  { now, until, limit, queue }: { now: string; until: string; limit: number; queue: LaterQueue },
): Promise<LaterClaim[]> {
  const { rows } = await transaction(db, { doing: 'claiming what is to be settled' }, (tx) =>
    tx.query<LaterClaim>(CLAIM[queue], [now, until, limit]),
  )
  return rows
}

/** The condition of each queue. Each has an index of its own (migration 0013). */
const OF_QUEUE: Record<LaterQueue, string> = { first: 'tries = 0', again: 'tries > 0' }

const CLAIM = {
  first: claim('first'),
  again: claim('again'),
}

function claim(queue: LaterQueue): Statement {
  return {
    name: `claim-later-${queue}`,
    text: `
      with due as (
        select uri from settle_later where ${OF_QUEUE[queue]} and "dueAt" <= $1 order by "dueAt" limit $3 for update skip locked
      )
      update settle_later held
      set "dueAt" = $2, claim = $2, tries = tries + 1, since = null, working = least(held.working, held.since)
      from due where ${keyed('held.uri', 'due.uri')} returning held.uri, held.working as since, held.claim, held.tries::int`,
  }
}

export interface SettleOptions {
  signal?: AbortSignal
  /**
   * How long after the end of the claim the record is due again if it was put off meanwhile. What the claim leaves to
   * others is also due so late, the first time.
   */
  againMs?: number
  limits?: Partial<OnwardLimits>
  /** How many replies that a follow or a list item may concern are judged at a time. */
  atOnce?: number
}

/**
 * Settles all that a claim asks for, or as much as one claim does, then ends the claim. What was put off meanwhile is
 * due after `againMs`; what was left to others is due then or later. Returns how many records changed.
 * @throws TransientError, FatalError, or the signal's reason; then the claim is held until its end
 */
export async function settleClaim(
  db: DatabasePool,
  collections: CollectionSet,
  claim: LaterClaim,
  { signal, againMs = 0, limits, atOnce = AT_ONCE }: SettleOptions = {},
): Promise<number> {
  const found = await db.session(momentNow)
  const touched = await touchedSince(db, collections, claim)
  const beyond: Beyond[] = []
  let changes = 0
  let seen = new Seen()
  const settle = async (uris: readonly string[], resumes: boolean): Promise<void> => {
    if (seen.size >= (limits?.seen ?? ONWARD_LIMITS.seen)) seen = new Seen()
    const options = { found, resumes, ...(limits && { limits }), ...(signal && { signal }) }
    const onward = await deriveOnward(db, collections, uris, { ...options, ...(resumes && { seen }) })
    changes += onward.changes
    beyond.push(...onward.beyond)
  }
  // An earlier holder of this claim may have died. What they changed does not change again, so the walk goes on from
  // everything that is found. It does not from what is only marked: nothing depends on the mark.
  const parts = collections.plugin(collectionOfUri(claim.uri))?.affectsInParts
  if (parts) for await (const uris of parts(sqlOf(db), touched, atOnce)) await settle(uris, true)
  else {
    const { uris, marked } = await db.session((session) => findAffected(session, collections, touched, 'nothing'))
    await settle(marked, false)
    await settle(uris, true)
  }
  await putOff(db, beyond, { dueAt: new Date(Date.now() + leftMs(claim, againMs)).toISOString(), tries: claim.tries })
  await endClaim(db, claim, againMs)
  return changes
}

/** About 1 MB of URIs. */
const AT_ONCE = 10_000

/** Doubles with each claim: a circle of more posts than one claim visits has no end. */
function leftMs({ tries }: LaterClaim, againMs: number): number {
  return againMs * 2 ** Math.min(tries - 1, LEFT_DOUBLINGS_MAX)
}

/** Ten seconds become ten minutes. */
const LEFT_DOUBLINGS_MAX = 6

/**
 * Stands for all versions of the record since `since`: a deletion at that time. In a collection whose dependents are
 * found by what its record says (a follow names an account), also the living version as if written then.
 */
async function touchedSince(db: DatabasePool, collections: CollectionSet, { uri, since }: Beyond): Promise<Touched[]> {
  const version = { uri, did: uri.split('/', 3)[2]!, rev: since, derived: false }
  if (collections.plugin(collectionOfUri(uri))?.derive) return [version]
  const { entries } = await db.session((session) => loadEntries(session, collections, [uri]))
  return [version, ...entries.map(({ entry }) => ({ ...version, entry: { ...entry, rev: since, live: true } }))]
}

/**
 * Ends a claim. A record that was put off meanwhile is due after `againMs`. A record that a claim (this one or another)
 * left behind is due as late as what this claim leaves to others: two claims that leave each other's record behind
 * would otherwise take turns as fast as they can. A row cannot say both. If it was put off for both reasons, it is due
 * late.
 */
async function endClaim(db: DatabasePool, claim: LaterClaim, againMs: number): Promise<void> {
  const { uri, tries } = claim
  const dueIn = (ms: number): string => new Date(Date.now() + ms).toISOString()
  await db.session(async (session) => {
    if ((await session.query(DONE, [uri, claim.claim])).rowCount === 1) return
    await session.query(AGAIN, [uri, claim.claim, tries, dueIn(againMs), dueIn(leftMs(claim, againMs))])
  })
}

const DONE = { name: 'settled-later', text: `delete from settle_later where uri = $1 and claim = $2 and since is null` }

/** `tries` above that of the claim means that something was left behind (`PUT_OFF`). */
const AGAIN = {
  name: 'settle-again',
  text: `
    update settle_later set claim = null, working = null, "dueAt" = case when tries > $3::bigint then $5 else $4 end, tries = greatest(tries - 1, $3::bigint)
    where uri = $1 and claim = $2 and since is not null`,
}

/**
 * Extends a claim to `until`, unless it has ended. Without this, others would begin again what takes longer than a
 * claim, each time before anybody is done.
 * @throws TransientError, FatalError
 */
export async function holdClaim(db: DatabasePool, { uri, claim }: LaterClaim, until: string): Promise<void> {
  await db.query(HOLD, [uri, claim, until])
}

const HOLD = { name: 'hold-later', text: `update settle_later set "dueAt" = $3 where uri = $1 and claim = $2` }

/** Ends a claim for which nothing was done: the record is due at once. */
export async function giveBack(db: DatabasePool, { uri, claim }: LaterClaim): Promise<void> {
  await db.query(GIVE_BACK, [uri, claim, new Date().toISOString()])
}

const GIVE_BACK = {
  name: 'give-back-later',
  text: `update settle_later set claim = null, since = least(since, working), working = null, "dueAt" = $3 where uri = $1 and claim = $2`,
}

/**
 * How many records wait or are worked on. Counts to 10,000 at most.
 * @throws TransientError, FatalError
 */
export async function waitingLater(db: Session): Promise<number> {
  const { rows } = await db.query<{ waiting: number }>(WAITING)
  return rows[0]!.waiting
}

const WAITING = {
  name: 'waiting-later',
  text: `select count(*)::int as waiting from (select from settle_later limit 10000) counted`,
}

/**
 * How many seconds each queue is overdue; 0: nothing is due. Reads one row of each queue.
 * @throws TransientError, FatalError
 */
export async function overdueLater(db: Session, now: Date): Promise<Record<LaterQueue, number>> {
  return overdueSeconds(db, { queues: LATER_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = { name: 'oldest-later', text: oldestOf('settle_later', OF_QUEUE) }
