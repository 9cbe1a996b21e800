/**
 * The engine. Applies a batch in one transaction, all or nothing. There is one exception: a single entry may empty a
 * repository of a million records. So the key ranges of a batch are split into parts, and each part removes its records
 * in a transaction of its own. The last part goes in the same transaction as the rest of the batch.
 *
 * Steps: own → find what resyncs removed → fold → look up → decide → remember → remove → contend → insert → notify →
 * count. Rows, counters, notifications and each record's rev commit together. Counters and notifications follow from
 * the rows that were really removed and inserted. So applying a batch twice changes nothing, and the same events end in
 * the same rows in any order and any split.
 *
 * Locks are taken in one order: accounts by DID, then rows of these accounts, then posts that may be in muted threads,
 * then counters by key. Records of different accounts can affect each other (a parent affects its reply, a gate affects
 * the replies that it judges). These effects are settled after the commit, when everything that ran concurrently is
 * visible.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection } from '@sluice/collections/define.ts'
import type { Notification } from '@sluice/collections/record.ts'
import { sortsByBytes } from '@sluice/database/collation.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { crashPoint } from '@sluice/runtime/crash-points.ts'
import { applyAccounts } from './accounts.ts'
import { writeLoading } from './bulk/load.ts'
import { readPhase } from './bulk/phase.ts'
import { contend, NO_CONTEST, writeContest, type Contest } from './contend.ts'
import { decide, endedByHeld, isInForce, type Decisions } from './decide.ts'
import { Deltas } from './deltas.ts'
import { applyIdentities } from './handle-checks.ts'
import { insertRows, writeRecords } from './insert.ts'
import { lookUp } from './look-up.ts'
import { placesOf, type Place } from './mutes.ts'
import { NotificationBatch } from './notify.ts'
import { dateByOwnCommits, findExported, findOwnCommits } from './own-commits.ts'
import { ownAccounts, type KnownActors } from './own.ts'
import { prepare, prepareRanges, type Prepared, type Range, type Refused } from './prepare.ts'
import { findVanished, inParts, REMOVED_MAX } from './ranges.ts'
import { rememberEnded, rememberFacts } from './remember.ts'
import { displaced, goingOf, removeRows, type Removed } from './remove.ts'
import { settle, unsettled, type BatchRoom } from './settle.ts'
import { sqlOf } from './sql.ts'
import { BEGAN, type Began } from './unseen.ts'
import { endedBy, fold, writtenOf, type Past } from './version.ts'

export interface Applied {
  inserted: number
  replaced: number
  removed: number
  /** Record versions that were not newer than what the index already knew of their path. */
  stale: number
  /** Records that settling derived again and that changed, because of this batch. */
  settled: number
  refused: Refused[]
}

export interface Index {
  db: DatabasePool
  collections: CollectionSet
  actors: KnownActors
  /** How many dependent records a batch settles itself, before its ack. Default: `ROOM`. */
  room?: BatchRoom
}

export interface ApplyOptions {
  /**
   * Also removes rows that carry the URI of a new record although `record` does not hold that record: leftovers of
   * another indexer.
   */
  clearLeftovers?: boolean
  /** Aborts the batch between two parts of its ranges. */
  signal?: AbortSignal
  /**
   * Awaited between two parts of the ranges, while no account is locked. Others may apply batches meanwhile, also to
   * the same accounts: the result is as if their batch had come before this one or after it.
   */
  between?: () => Promise<void>
  /** The most records that one transaction removes because of ranges. */
  batchRecords?: number
}

/**
 * Applies a batch and settles it.
 *
 * @throws TransientError, RefusedError, FatalError, or the signal's reason. Then nothing of the batch is applied,
 * except that some parts of its ranges may already have removed their records; a redelivered batch repeats these
 * removals
 */
export async function applyBatch(
  index: Index,
  events: readonly StreamEvent[],
  { clearLeftovers = false, signal, between, batchRecords = REMOVED_MAX }: ApplyOptions = {},
): Promise<Applied> {
  const { db, collections } = index
  const prepared = prepare(collections, events)
  if (prepared.ranges.length === 0) return await applyPrepared(index, prepared, { byBytes: false, clearLeftovers })
  const byBytes = await sortsByBytes(db)
  const before = { removed: 0, stale: 0, settled: 0 }
  let ranges: Range[] | undefined
  for await (const part of inParts(db, prepared.ranges, byBytes, batchRecords)) {
    if (ranges) {
      signal?.throwIfAborted()
      const applied = await applyPrepared(index, prepareRanges(ranges), { byBytes, clearLeftovers: false })
      for (const outcome of ['removed', 'stale', 'settled'] as const) before[outcome] += applied[outcome]
      await between?.()
    }
    ranges = part
  }
  // Only the last part's ranges go with the batch. Those of earlier parts are applied: their watermark is durable, and
  // no version older than it gets in again.
  const last = await applyPrepared(index, { ...prepared, ranges: ranges! }, { byBytes, clearLeftovers })
  const { removed, stale, settled } = before
  return { ...last, removed: last.removed + removed, stale: last.stale + stale, settled: last.settled + settled }
}

/** Applies `prepared` in one transaction, all or nothing, then settles it. */
async function applyPrepared(
  { db, collections, actors, room }: Index,
  prepared: Prepared,
  { byBytes, clearLeftovers }: { byBytes: boolean; clearLeftovers: boolean },
): Promise<Applied> {
  const { decisions, open } = await transaction(db, { doing: 'applying a batch' }, async (tx) => {
    const began = tx.query<Began>(BEGAN)
    const phase = readPhase(tx)
    // The phase is awaited further below. If an earlier statement fails, this promise fails too, and nobody awaits it:
    // without a handler that would end the process as an unhandled rejection.
    phase.catch(() => {})
    const resyncRevs = await ownAccounts(tx, prepared.heads, actors)
    const vanished = prepared.ranges.length > 0 ? await findVanished(tx, prepared.ranges, resyncRevs, byBytes) : []
    const { newest, past: superseded } = fold([...vanished, ...prepared.versions])
    const known = await lookUp(
      tx,
      newest.map(({ uri }) => uri),
    )
    const past = superseded.map((each) =>
      endedBy(endedByHeld(each, known.get(each.version.uri)), resyncRevs.get(each.version.did)),
    )
    const decided = decide(newest, known, resyncRevs)
    const ended = past.filter((each) => !isInForce(each, known.get(each.version.uri)))
    const ownCommits = findOwnCommits(newest, known, decided, ended)
    const loading = (await phase) === 'loading'
    const muted = loading
      ? await writeLoading(tx, collections, decided, ended)
      : await writeAll(tx, collections, decided, ended, clearLeftovers)
    await dateByOwnCommits(tx, collections, ownCommits, findExported(decided, resyncRevs))
    applyAccounts(tx, prepared)
    applyIdentities(tx, prepared.identities)
    crashPoint('commit.before')
    return {
      decisions: decided,
      open: loading ? undefined : unsettled(decided, past, (await began).rows[0]!, { known, muted }),
    }
  })
  actors.add(prepared.heads.map(({ did }) => did))
  crashPoint('settle.before')
  const settled = open ? await settle(db, collections, open, room) : 0
  return { ...summary(decisions, prepared.refused), settled }
}

async function writeAll(
  tx: Transaction,
  collections: CollectionSet,
  decided: Decisions,
  folded: readonly Past[],
  clearLeftovers: boolean,
): Promise<Place[]> {
  const deltas = new Deltas()
  const ended = await rememberFacts(tx, collections, decided, folded)
  const leftovers = clearLeftovers ? decided.fresh : []
  const removed = await removeRows(
    tx,
    collections,
    goingOf([...decided.removed, ...decided.replaced, ...leftovers], folded),
    deltas,
  )
  writeRecords(tx, decided)
  const contests = await contendAll(tx, collections, decided, removed, deltas)
  const notices = new NotificationBatch()
  await rememberEnded(tx, ended, notices)
  for (const [plugin, contest] of contests) await insertAll(tx, plugin, contest, deltas, notices)
  const { fresh, replaced, repeated, past } = decided
  const late = [...folded, ...past].map(({ version }) => version)
  const places = [...placesOf([...fresh, ...repeated], false), ...placesOf([...replaced, ...late], true)]
  const muted = await notices.flush(tx, places)
  // Counters come last. Likes of many accounts change the counters of the same few posts, and a counter row stays
  // locked until the commit: every other batch that needs the row waits.
  deltas.flush(tx)
  return muted
}

/** Decides for each collection which records get rows. The map is in the order of the list of collections. */
async function contendAll(
  tx: Transaction,
  collections: CollectionSet,
  { fresh, replaced }: Decisions,
  removed: Removed,
  deltas: Deltas,
): Promise<Map<Collection, Contest>> {
  const news = Map.groupBy([...fresh, ...replaced], ({ collection }) => collection)
  const contests = await Promise.all(
    collections.plugins.map(async (plugin): Promise<[Collection, Contest]> => {
      const written = (news.get(plugin.nsid) ?? []).flatMap(writtenOf)
      const vacated = removed.get(plugin.nsid) ?? []
      if (plugin.unique.length === 0 || written.length + vacated.length === 0)
        return [plugin, { ...NO_CONTEST, winners: written }]
      return [plugin, await contend(tx, collections, plugin, written, vacated)]
    }),
  )
  const dethroned = contests.flatMap(([, contest]) => contest.dethroned)
  await removeRows(tx, collections, dethroned.map(displaced), deltas)
  for (const [, contest] of contests) writeContest(tx, contest)
  return new Map(contests)
}

async function insertAll(
  tx: Transaction,
  plugin: Collection,
  { winners, heirs }: Contest,
  deltas: Deltas,
  notices: NotificationBatch,
): Promise<void> {
  if (winners.length + heirs.length === 0) return
  const derived = (await plugin.derive?.(sqlOf(tx), winners)) ?? new Map<string, Notification[]>()
  const rowsByTable = Map.groupBy(
    [...winners, ...heirs].flatMap(({ rows }) => rows),
    ({ table }) => table,
  )
  for (const [table, rows] of rowsByTable) {
    insertRows(tx, table, rows)
    const counters = plugin.counters.filter((counter) => counter.of === table)
    const aggregateRows = plugin.aggregateRows.filter(({ of }) => of === table)
    if (counters.length + aggregateRows.length === 0) continue
    for (const { values } of rows) {
      deltas.add(counters, values, 1)
      deltas.keep(aggregateRows, values)
    }
  }
  for (const { entry } of winners) notices.add(plugin, entry, derived.get(entry.uri) ?? plugin.notifications(entry))
  for (const { entry, notifications } of heirs) notices.add(plugin, entry, notifications)
}

function summary({ fresh, replaced, removed, stale }: Decisions, refused: Refused[]): Omit<Applied, 'settled'> {
  return { inserted: fresh.length, replaced: replaced.length, removed: removed.length, stale, refused }
}
