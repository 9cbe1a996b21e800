/**
 * The purge of an account whose deletion is confirmed (`deletion-queue.ts`), and what takes it back.
 *
 * A purge is a resync with an empty repository: the engine removes the records in bounded batches, so counters, duplicates, threads and notifications of
 * others become what they are without them, and the account's watermark keeps events that are still queued from bringing anything back. Interrupted
 * anywhere, it goes on with what is left. The account's row goes last, with what others' records have told it.
 *
 * What stays: `actor_sync`, the counters that other accounts' records make, and which facts were true when (never content), by which replies were judged.
 */
import { tidFromMicros, tidMicros } from '@sluice/events/tid.ts'
import type { Statement } from '@sluice/collections/define.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { sortsByBytes } from '@sluice/database/collation.ts'
import type { RepoEvent } from '@sluice/events/stream-event.ts'
import { crashPoint } from '@sluice/runtime/crash-points.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import type { DeletionClaim } from './deletion-queue.ts'
import { recordsBetween, uriInOrder, urisOf } from './ranges.ts'

/** The account was never deleted, or is back. What a purge left to keep late events out falls: its repository may have the head of before. */
export async function reopenAccount(
  db: DatabasePool,
  { did, deletedAt }: Pick<DeletionClaim, 'did' | 'deletedAt'>,
  signal: AbortSignal,
): Promise<void> {
  const { rows } = await db.query<{ purgeRevs: string[] | null }>(PURGE_REVS, [did])
  // A version that did not write them down used the time of the deletion.
  const revs = [...(rows[0]?.purgeRevs ?? []), revOfDeletion(deletedAt)]
  await deleteInOrder(db, DELETE_PURGE_MARKS, [...urisOf(did), revs, BATCH_RECORDS], signal)
  await db.query(REOPEN, [did, revs])
}

const PURGE_REVS = { name: 'purge-revs', text: `select "purgeRevs" from account_deletion where did = $1` }

/** What a real export has raised it to since then stands. */
const REOPEN = {
  name: 'reopen-account',
  text: `update actor_sync set "resyncRev" = null where did = $1 and "resyncRev" = any($2::text[])`,
}

const BATCH_RECORDS = 500

export interface PurgeOptions {
  signal: AbortSignal
  /** Records that one transaction removes, at most. */
  batchRecords?: number
}

/**
 * Removes everything of a deleted account. @returns whether the account is purged: false when it came back meanwhile, or has records that came in behind
 * the purge; then those go in the next one
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
  // First the watermark alone: nothing that is queued may come in behind us.
  await applyBatch(index, [nothingIn(did, rev, deletedAt, ['', '!'])])
  let done = ''
  for (;;) {
    signal.throwIfAborted()
    const { rows } = await db.query<{ uri: string }>(some, [did, from, to, rev, batchRecords])
    if ((await db.query(UNDER_WAY, [did, deletedAt])).rowCount === 0) return false
    const [first, last] = [rows[0], rows.at(-1)].map((row) => row?.uri.slice(`at://${did}/`.length))
    // From where the last one ended: what was removed before would be looked at again each time. At the end of all, in a purge that is gone on with, it is.
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
 * The rev at which the records go, durable before the first of them does. It is above that of every record, whatever time the deletion claims: a range takes no record of its
 * very rev. The one of a purge that was interrupted is used again, unless the account has written past it; it only rises, and those before it stay written down.
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

/** Written so that no index on the state can match: of an account that is named, there is one row. With plans from when few were deleted all that were would be read. */
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

/** Of none: '', before every rev. */
function newestOf(revs: readonly string[]): string {
  return revs.reduce((newest, rev) => (rev > newest ? rev : newest), '')
}

/** A rev above this one. The last TIDs, and what another indexer may have written, have none that is a TID: then a longer text, which sorts behind it. */
function after(rev: string): string {
  const micros = tidMicros(rev) + 1
  return Number.isSafeInteger(micros) ? tidFromMicros(micros) : `${rev}2`
}

/** An event may claim any time; TIDs end in the year 2255. */
function revOfDeletion(deletedAt: string): string {
  return tidFromMicros(Math.min(Math.max(0, Date.parse(deletedAt)) * 1000, Number.MAX_SAFE_INTEGER), 1023)
}

/** In byte order, as ranges are, and none that a range leaves. '!' goes before every character of a record path. */
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
 * Deletes in batches, in order. Each goes on where the one before it ended: what was deleted stays in its index until a vacuum, and each would read it again.
 * @param values the first says from where on; a statement answers how far it has come, null at the end
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

/** By an array, not IN: two relations may be joined, and the planner may read all of one for that. */
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

/** Those that outlived their records. */
function deleteOutliving(byBytes: boolean): Statement {
  const own = recordsBetween(byBytes, ['$3', '$1', '$2'], { account: 'author', uri: '"recordUri"' })
  const inOrder = byBytes ? '"recordUri"' : '"recordUri" collate "C"'
  return {
    name: 'delete-outliving-of-deleted',
    text: deleteSome('notification', 'id', inOrder, `${own} order by ${inOrder} limit $4`),
  }
}

/** The watermark says the same for all of them. */
const DELETE_TOMBSTONES = {
  name: 'delete-tombstones-of-deleted',
  text: deleteSome(
    'tombstone',
    'uri',
    'uri',
    'uri >= $1 and uri < $2 and did = $3 and rev <= $4 order by uri limit $5',
  ),
}

/** Those that the purge itself has made, and no others. */
const DELETE_PURGE_MARKS = {
  name: 'delete-marks-of-purge',
  text: deleteSome(
    'tombstone',
    'uri',
    'uri',
    'uri >= $1 and uri < $2 and did = $3 and rev = any($4::text[]) order by uri limit $5',
  ),
}

/** The account itself, when it has no records left. Whoever applies events of it waits here, and finds it gone. */
async function finish(db: DatabasePool, did: string, deletedAt: string): Promise<boolean> {
  const left = recordsLeft(await sortsByBytes(db))
  const [from, to] = urisOf(did)
  return await transaction(db, { doing: 'purging an account' }, async (tx) => {
    void tx.query({ name: 'own-deleted', text: `select from actor_sync where did = $1 for update` }, [did])
    const { rows } = await tx.query<{ rev: string | null }>(left, [did, from, to])
    if (rows.length > 0) {
      // They came in at the rev of the purge or above it, from a host that says there is no such repository. Not in this round: it may go on so for as long as it likes.
      void tx.query(BEGIN_PURGE, [did, deletedAt, after(newestOf(rows.map(({ rev }) => rev ?? '')))])
      return false
    }
    const { rowCount } = await tx.query(NOTE_PURGE, [did, deletedAt])
    if (rowCount === 0) return false
    void tx.query({ name: 'delete-actor', text: `delete from actor where did = $1` }, [did])
    void tx.query({ name: 'delete-handle-check', text: `delete from handle_check where did = $1` }, [did])
    return true
  })
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
