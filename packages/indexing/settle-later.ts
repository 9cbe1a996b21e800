/**
 * The durable queue of records on which more hangs than a batch has the time to settle (`settle.ts`), and how it is worked off: all that hangs on such a record is derived again, as if
 * nothing of it had been.
 *
 * A claim is a time until which nobody else takes the record, and is held anew while somebody works on it. Who dies with it loses nothing: it is due again when the claim ends, and settled from the beginning. What is put off
 * while somebody works on the record waits beside the claim, in `since`, and is looked at after its end: so a stranger who edits a post each second has what is below it judged as often as that takes, not as
 * often as they like. `working` is what the claim took.
 *
 * What takes too much for one claim it leaves to others, as records that are put off for it (`deriveOnward`); before it ends, so that who dies in between begins anew.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri, type Beyond, type Statement, type Touched } from '@sluice/collections/define.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { deriveOnward, ONWARD_LIMITS, type OnwardLimits } from './derive-onward.ts'
import { loadEntries } from './entry.ts'
import { findAffected } from './find-affected.ts'
import { oldestOf, overdueSeconds } from './overdue.ts'
import { Seen } from './seen.ts'
import { sqlOf } from './sql.ts'
import { momentNow } from './unseen.ts'

/** Those that wait for the first time, and those that were put off again while somebody worked on them, or with whom somebody died. */
export const LATER_QUEUES = ['first', 'again'] as const
export type LaterQueue = (typeof LATER_QUEUES)[number]

/**
 * Enters these records, or more of what hangs on them. Durable when it resolves.
 * @param tries of the claim that leaves them to others; default: nobody has begun
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

/** In one order, so that two indexers cannot deadlock. `tries` of a claim under way that another leaves behind is higher then than it took, by which it knows. */
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
  /** Names the claim: until when it holds. */
  claim: string
  /** The how manieth it is, with those by which it was left to this one. */
  tries: number
}

/** Takes what is due, the longest overdue first; nobody else gets it before `until`. @throws TransientError, FatalError */
export async function claimLater(
  db: DatabasePool,
  { now, until, limit, queue }: { now: string; until: string; limit: number; queue: LaterQueue },
): Promise<LaterClaim[]> {
  const { rows } = await transaction(db, { doing: 'claiming what is to be settled' }, (tx) =>
    tx.query<LaterClaim>(CLAIM[queue], [now, until, limit]),
  )
  return rows
}

/** Each with an index of its own (0013). */
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
  /** From the end of the claim to when what was put off meanwhile is due, and the rest of it the first time. */
  againMs?: number
  limits?: Partial<OnwardLimits>
  /** So many replies that a follow or a list item may concern are judged at a time. */
  atOnce?: number
}

/**
 * Settles all of a claim, or as much as one does, and ends it. What was put off meanwhile is due after `againMs`, what was left then or later. Returns how many records changed.
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
  // What somebody who died with it has changed does not change again, so from all that is found it is gone on; not from what is only marked.
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

/** 1 MB of URIs. */
const AT_ONCE = 10_000

/** Later each time that it is left: a circle of more posts than one claim goes through has no end. */
function leftMs({ tries }: LaterClaim, againMs: number): number {
  return againMs * 2 ** Math.min(tries - 1, LEFT_DOUBLINGS_MAX)
}

/** Of ten seconds they make ten minutes. */
const LEFT_DOUBLINGS_MAX = 6

/** All versions of the record since then, as two that stand for them: one that ended then, and where what hangs on it is found by what it says, the one that lives. */
async function touchedSince(db: DatabasePool, collections: CollectionSet, { uri, since }: Beyond): Promise<Touched[]> {
  const version = { uri, did: uri.split('/', 3)[2]!, rev: since, derived: false }
  if (collections.plugin(collectionOfUri(uri))?.derive) return [version]
  const { entries } = await db.session((session) => loadEntries(session, collections, [uri]))
  return [version, ...entries.map(({ entry }) => ({ ...version, entry: { ...entry, rev: since, live: true } }))]
}

/**
 * What was put off meanwhile is due soon; what claims have left behind, this one or another, as late as if it were left to another, since two that leave the record of each other
 * behind would take turns as fast as they can. A row cannot say both: if something else was put off too, it is as late.
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

/** Whether something was left behind says `PUT_OFF`. */
const AGAIN = {
  name: 'settle-again',
  text: `
    update settle_later set claim = null, working = null, "dueAt" = case when tries > $3::bigint then $5 else $4 end, tries = greatest(tries - 1, $3::bigint)
    where uri = $1 and claim = $2 and since is not null`,
}

/** Holds a claim until then, if it is not ended. Without it, what takes longer than a claim would be begun again by others, each time before anybody is done. @throws TransientError, FatalError */
export async function holdClaim(db: DatabasePool, { uri, claim }: LaterClaim, until: string): Promise<void> {
  await db.query(HOLD, [uri, claim, until])
}

const HOLD = { name: 'hold-later', text: `update settle_later set "dueAt" = $3 where uri = $1 and claim = $2` }

/** Ends a claim with which nothing was done: it is due at once. */
export async function giveBack(db: DatabasePool, { uri, claim }: LaterClaim): Promise<void> {
  await db.query(GIVE_BACK, [uri, claim, new Date().toISOString()])
}

const GIVE_BACK = {
  name: 'give-back-later',
  text: `update settle_later set claim = null, since = least(since, working), working = null, "dueAt" = $3 where uri = $1 and claim = $2`,
}

/** How many records wait, or are worked on; 10,000 at most, beyond which nobody counts. @throws TransientError, FatalError */
export async function waitingLater(db: Session): Promise<number> {
  const { rows } = await db.query<{ waiting: number }>(WAITING)
  return rows[0]!.waiting
}

const WAITING = {
  name: 'waiting-later',
  text: `select count(*)::int as waiting from (select from settle_later limit 10000) counted`,
}

/** How overdue each queue is, in seconds; 0: nothing is due. Reads one row of each. @throws TransientError, FatalError */
export async function overdueLater(db: Session, now: Date): Promise<Record<LaterQueue, number>> {
  return overdueSeconds(db, { queues: LATER_QUEUES, oldest: OLDEST }, now)
}

const OLDEST = { name: 'oldest-later', text: oldestOf('settle_later', OF_QUEUE) }
