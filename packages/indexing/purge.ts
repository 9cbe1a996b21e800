/**
 * Purges an account whose deletion is confirmed (`deletion-queue.ts`), and takes a purge back.
 *
 * A purge is a resync with an empty repository: the engine removes the records in bounded batches. So counters,
 * duplicates, threads and notifications of others become what they are without those records. The account's watermark
 * keeps queued events from bringing anything back. A purge that is interrupted anywhere goes on with what is left. The
 * account's row goes last, after the notifications that it has received.
 *
 * What stays: `actor_sync`; the counters that other accounts' records make; in `past_fact` which facts were true
 * when, by which replies were judged (never content); and of an account that is taken down the row in `actor`.
 */
import { tidFromMicros, tidMicros } from '@sluice/events/tid.ts'
import type { Statement } from '@sluice/collections/depends.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { sortsByBytes } from '@sluice/database/collation.ts'
import type { RepoEvent } from '@sluice/events/stream-event.ts'
import { crashPoint } from '@sluice/runtime/crash-points.ts'
import { DELETED } from './accounts.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import type { DeletionClaim } from './deletion-queue.ts'
import { recordsBetween, uriInOrder, urisOf } from './ranges.ts'

/**
 * Called when the account was never deleted, or is back. Removes what the purge left to keep late events out (its
 * watermark and tombstones): the head of the account's repository may be the one from before the purge.
 */
export async function reopenAccount(
  db: DatabasePool,
  { did, deletedAt }: Pick<DeletionClaim, 'did' | 'deletedAt'>,
  signal: AbortSignal,
): Promise<void> {
  const { rows } = await db.query<{ purgeRevs: string[] | null }>(PURGE_REVS, [did])
  // A build that did not store the revs of its purges used the rev of the time of the deletion.
  const revs = [...(rows[0]?.purgeRevs ?? []), revOfDeletion(deletedAt)]
  await deleteInOrder(db, DELETE_PURGE_MARKS, [...urisOf(did), revs, BATCH_RECORDS], signal)
  await db.query(REOPEN, [did, revs])
}

const PURGE_REVS = { name: 'purge-revs', text: `select "purgeRevs" from account_deletion where did = $1` }

/** Only a watermark that a purge set is removed. If a real export has raised it since, it stays. */
const REOPEN = {
  name: 'reopen-account',
  text: `update actor_sync set "resyncRev" = null where did = $1 and "resyncRev" = any($2::text[])`,
}

const BATCH_RECORDS = 500

export interface PurgeOptions {
  signal: AbortSignal
  /** How many records one transaction removes, at most. */
  batchRecords?: number
}

/**
 * Removes everything of a deleted account.
 * @returns whether the account is purged. False if it came back meanwhile, or if it has records that came in behind the
 * purge: those go in the next purge
 * @throws TransientError, FatalError, or the signal's reason between two batches; then it can be called again
 */
export async function purgeAccount(
  index: Index,
  { did, deletedAt }: Pick<DeletionClaim, 'did' | 'deletedAt'>,
  { signal, batchRecords = BATCH_RECORDS }: PurgeOptions,
): Promise<boolean> {
  const { db } = index
  const rev = await beginPurge(db, did, deletedAt)
  if (rev === undefined) return false
  const byBytes = await sortsByBytes(db)
  const some = someRecords(byBytes)
  const [from, to] = urisOf(did)
  // The watermark is raised first, alone: no queued event may come in behind the purge.
  await applyBatch(index, [nothingIn(did, rev, deletedAt, ['', '!'])])
  let done = ''
  for (;;) {
    signal.throwIfAborted()
    const { rows } = await db.query<{ uri: string }>(some, [did, from, to, rev, batchRecords])
    if ((await db.query(UNDER_WAY, [did, deletedAt])).rowCount === 0) return false
    const [first, last] = [rows[0], rows.at(-1)].map((row) => row?.uri.slice(`at://${did}/`.length))
    // The range begins where the last one ended: otherwise each batch would look again at what was removed before. It
    // begins at the start of the repository in the first round, also of a resumed purge, and when a record has come in
    // before that point.
    const range: [string, string] = [
      first !== undefined && first < done ? '' : done,
      last === undefined ? '' : `${last}!`,
    ]
    await applyBatch(index, [nothingIn(did, rev, deletedAt, range)], { signal })
    if (last === undefined) break
    done = range[1]
    crashPoint('purge.between')
  }
  await deleteInOrder(db, DELETE_TOLD, ['', did, batchRecords], signal)
  await deleteInOrder(db, deleteOutliving(byBytes), [from, to, did, batchRecords], signal)
  await deleteInOrder(db, DELETE_TOMBSTONES, [from, to, did, rev, batchRecords], signal)
  const purged = await finish(db, did, deletedAt)
  if (purged) index.actors.forget(did)
  return purged
}

/**
 * The rev of the purge, durable before the first record is removed. It is above the rev of every record, whatever time
 * the deletion claims, because a range removes no record of its own rev. A resumed purge uses the rev of the
 * interrupted one, unless the account has written past it. The rev only rises, and all earlier revs stay stored.
 * @returns undefined: the deletion was taken back
 */
async function beginPurge(db: DatabasePool, did: string, deletedAt: string): Promise<string | undefined> {
  const { rows } = await db.query<{ repoRev: string | null; resyncRev: string | null; purgeRevs: string[] | null }>(
    HELD_BY_DELETED,
    [did, deletedAt],
  )
  if (rows.length === 0) return undefined
  const [{ repoRev, resyncRev, purgeRevs }] = rows as [(typeof rows)[0]]
  const used = newestOf(purgeRevs ?? [])
  const held = newestOf([repoRev ?? '', resyncRev === used ? '' : (resyncRev ?? '')])
  const least = held < used ? used : after(held)
  const rev = newestOf([least, revOfDeletion(deletedAt)])
  const { rowCount } = await db.query(BEGIN_PURGE, [did, deletedAt, rev])
  return rowCount === 0 ? undefined : rev
}

/**
 * Written so that no index on the state can match: the statement names one account, and it has one row. A plan from a
 * time when few accounts were deleted would read the rows of all deleted accounts.
 */
function isState(states: string, column = 'state'): string {
  return `${column} || '' in ${states}`
}

const HELD_BY_DELETED = {
  name: 'held-by-deleted',
  text: `
    select sync."repoRev", sync."resyncRev", gone."purgeRevs" from account_deletion gone left join actor_sync sync on sync.did = gone.did
    where gone.did = $1 and gone."deletedAt" = $2 and ${isState("('reported', 'purging')", 'gone.state')}`,
}

const BEGIN_PURGE = {
  name: 'begin-purge',
  text: `
    update account_deletion set state = 'purging', tries = 0,
      "purgeRevs" = case when $3 = any("purgeRevs") then "purgeRevs" else array_append("purgeRevs", $3) end
    where did = $1 and "deletedAt" = $2 and ${isState("('reported', 'purging')")}`,
}

const UNDER_WAY = {
  name: 'purge-under-way',
  text: `select from account_deletion where did = $1 and "deletedAt" = $2 and ${isState("('purging')")}`,
}

/** The newest of these revs; '' if there are none, which sorts before every rev. */
function newestOf(revs: readonly string[]): string {
  return revs.reduce((newest, rev) => (rev > newest ? rev : newest), '')
}

/**
 * A rev above this one. Above the last TIDs, and above some revs that another indexer may have written, there is no
 * TID: then a longer text that sorts after the rev.
 */
function after(rev: string): string {
  const micros = tidMicros(rev) + 1
  return Number.isSafeInteger(micros) ? tidFromMicros(micros) : `${rev}2`
}

/** The rev for the time of a deletion. An event may claim any time; TIDs end in the year 2255. */
function revOfDeletion(deletedAt: string): string {
  return tidFromMicros(Math.min(Math.max(0, Date.parse(deletedAt)) * 1000, Number.MAX_SAFE_INTEGER), 1023)
}

/**
 * Finds the next records in byte order, the order of ranges, without those of the purge's own rev, which a range
 * leaves. '!' (in the ranges) sorts before every character of a record path.
 */
function someRecords(byBytes: boolean): Statement {
  return {
    name: 'some-records-of-deleted',
    text: `
      select uri from record where ${recordsBetween(byBytes)} and (rev is null or rev < $4) order by ${uriInOrder(byBytes)} limit $5`,
  }
}

function nothingIn(did: string, rev: string, time: string, range: [string, string]): RepoEvent {
  return { type: 'repo', time, did, commit: '', rev, range, keys: [] }
}

/**
 * Deletes in batches, in order. Each batch goes on where the one before it ended: deleted rows stay in the index until
 * a vacuum, and each batch would read them again.
 * @param values the first value is where to begin. The statement answers how far it has come, or null at the end
 */
async function deleteInOrder(
  db: DatabasePool,
  statement: Statement,
  [start, ...values]: [string, ...unknown[]],
  signal: AbortSignal,
): Promise<void> {
  let from = start
  for (;;) {
    signal.throwIfAborted()
    const { rows } = await db.query<{ last: string | null }>({ ...statement, values: [from, ...values] })
    const { last } = rows[0]!
    if (last === null) return
    from = last
  }
}

/** Uses an array, not IN: with IN the planner could join two relations, and read all of one of them. */
function deleteSome(table: string, key: string, position: string, some: string): string {
  return `
    with gone as (
      delete from ${table} where ${key} = any(array(
        select ${key} from ${table} where ${some}
      )) returning ${position} as position
    )
    select max(position) as last from gone`
}

const DELETE_TOLD = {
  name: 'delete-notifications-of-deleted',
  text: deleteSome('notification', 'id', '"sortAt"', `did = $2 and "sortAt" >= $1 order by "sortAt" limit $3`),
}

/** Deletes notifications about the account's records that outlived those records. */
function deleteOutliving(byBytes: boolean): Statement {
  const own = recordsBetween(byBytes, ['$3', '$1', '$2'], { account: 'author', uri: '"recordUri"' })
  const inOrder = byBytes ? '"recordUri"' : '"recordUri" collate "C"'
  return {
    name: 'delete-outliving-of-deleted',
    text: deleteSome('notification', 'id', inOrder, `${own} order by ${inOrder} limit $4`),
  }
}

/** Deletes the account's tombstones up to the rev of the purge: the watermark says the same for all of them. */
const DELETE_TOMBSTONES = {
  name: 'delete-tombstones-of-deleted',
  text: deleteSome(
    'tombstone',
    'uri',
    'uri',
    'uri >= $1 and uri < $2 and did = $3 and rev <= $4 order by uri limit $5',
  ),
}

/** Deletes only the tombstones that a purge has made. */
const DELETE_PURGE_MARKS = {
  name: 'delete-marks-of-purge',
  text: deleteSome(
    'tombstone',
    'uri',
    'uri',
    'uri >= $1 and uri < $2 and did = $3 and rev = any($4::text[]) order by uri limit $5',
  ),
}

/**
 * Removes the account itself, if it has no records left. Whoever applies events of the account waits for its lock here,
 * and then finds the account purged.
 */
async function finish(db: DatabasePool, did: string, deletedAt: string): Promise<boolean> {
  const left = recordsLeft(await sortsByBytes(db))
  const [from, to] = urisOf(did)
  return await transaction(db, { doing: 'purging an account' }, async (tx) => {
    void tx.query({ name: 'own-deleted', text: `select from actor_sync where did = $1 for update` }, [did])
    const { rows } = await tx.query<{ rev: string | null }>(left, [did, from, to])
    if (rows.length > 0) {
      // Records came in at the rev of the purge or above it, from a host that says that there is no such repository.
      // They are not removed in this round: the host may go on like this for as long as it likes.
      void tx.query(BEGIN_PURGE, [did, deletedAt, after(newestOf(rows.map(({ rev }) => rev ?? '')))])
      return false
    }
    const { rowCount } = await tx.query(NOTE_PURGE, [did, deletedAt])
    if (rowCount === 0) return false
    void tx.query(DELETE_ACTOR, [did])
    void tx.query(STRIP_ACTOR, [did])
    void tx.query({ name: 'delete-handle-check', text: `delete from handle_check where did = $1` }, [did])
    return true
  })
}

/**
 * The row of an account that this AppView has taken down stays, without its handle. Otherwise a host that deletes the
 * account and brings it back would lift the takedown.
 */
const DELETE_ACTOR = {
  name: 'delete-actor',
  text: `delete from actor where did = $1 and "takedownRef" is null`,
}

const STRIP_ACTOR = {
  name: 'strip-actor',
  text: `update actor set handle = null, "upstreamStatus" = '${DELETED}' where did = $1`,
}

function recordsLeft(byBytes: boolean): Statement {
  return {
    name: 'left-of-deleted',
    text: `select max(rev) as rev from record where ${recordsBetween(byBytes)} having count(*) > 0`,
  }
}

const NOTE_PURGE = {
  name: 'note-purge',
  text: `update account_deletion set state = 'purged' where did = $1 and "deletedAt" = $2 and ${isState("('purging')")}`,
}
