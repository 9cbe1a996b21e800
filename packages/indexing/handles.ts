/**
 * The only writer of `actor.handle`: writes what checks of handles found (`handle-checks.ts`).
 *
 * - An account that is not active keeps its handle until another account has it: its host answers for none of its
 *   handles, and the account may come back.
 * - A handle belongs to one actor. The newest verification wins. The actor that had the handle loses it and is checked
 *   again, as one whose check failed. So two actors that take a handle from each other (because a name server answers
 *   now with the one and now with the other) wait ever longer.
 *
 * Locks: one writer of handles at a time, then actors by DID, then their checks by DID.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import { lookAgain, reschedule, validHandleChecks, type HandleCheck } from './handle-checks.ts'

export interface EndedHandleChecks {
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
export async function endHandleChecks(db: DatabasePool, checks: readonly HandleCheck[]): Promise<EndedHandleChecks> {
  if (checks.length === 0) return { changed: 0, dispossessed: 0, void: 0 }
  return await transaction(db, { doing: 'writing handles' }, async (tx) => {
    void tx.query(ONE_WRITER)
    const held = await tx.query<HeldActor>(LOCK_ACTORS, [
      checks.map(({ claim }) => claim.did),
      checks.flatMap(({ handle }) => handle ?? []),
    ])
    const hidden = new Set(held.rows.flatMap(({ did, upstreamStatus }) => (upstreamStatus === null ? [] : [did])))
    const valid = (await validHandleChecks(tx, checks)).map((check) =>
      hidden.has(check.claim.did) ? keepingHandle(check) : check,
    )
    const { handles, dispossessed, takers } = decideHandles(
      valid,
      new Map(held.rows.map((row) => [row.did, row.handle])),
    )
    writeHandles(tx, handles, valid)
    reschedule(tx, valid, new Set([...dispossessed, ...takers]))
    lookAgain(tx, dispossessed)
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
