/**
 * Decides what a batch changes, given what the index holds. Pure.
 *
 * The rule, for each record path: the highest rev seen wins, deletions included. So live, exported and redelivered
 * events end in the same rows, in any order of arrival.
 */
import { endedBy, past, type Past, type Version } from './version.ts'

/** What the index knows of one path. */
export type Known =
  /**
   * The record lives. A `null` rev means that another indexer wrote it before ours: any version is newer. `doubt` is
   * the oldest of its deletions in doubt (see `doubted`). `exported`: an export brought it, and `rev` is that export's
   * head.
   */
  | { state: 'living'; rev: string | null; cid: string; doubt?: Deletion; exported?: true }
  | ({ state: 'deleted' } & Deletion)

export interface Deletion {
  rev: string
  at: string
}

export interface Decisions {
  /** The index has no row: insert. */
  fresh: Version[]
  /** The index has a row with other content: remove and insert. */
  replaced: Version[]
  /** The index has a row with the same content at a lower rev: update the rev and whether it came from an export. */
  confirmed: Version[]
  /** Deletions of records that have a row: remove. */
  removed: Version[]
  /** Deletions that are news: set the tombstone of the path, or raise its rev. */
  tombstoned: Version[]
  /**
   * Deletions in doubt: the record lives in the index, and the deletion is below the watermark of a resync. Perhaps the
   * record was written anew after the deletion. If it was written with the same content, the export left its row as it
   * was. The part of the export that tells may also be still to come. So the row stays, with a tombstone beside it,
   * until the next version of the path.
   *
   * The row stays wrongly if the export has the path with a version that is refused. The same happens if the deletion
   * never arrives.
   */
  doubted: Version[]
  /** Versions whose path has a tombstone that is to be deleted, because the record was written anew. */
  resurrected: Version[]
  /** How many versions were no news. */
  stale: number
  /**
   * The stale versions that have the same rev as the index. The batch that wrote them may have died before it settled.
   */
  repeated: Version[]
  /**
   * Versions that were in force once and are not any more: versions that arrive late, and deletions that a new record
   * ends.
   */
  past: Past[]
  /**
   * By URI, the rev of the version that the index held when a newer one came. Versions are left out that another
   * indexer wrote or that an export may have brought: nobody knows since when those were in force.
   */
  held: Map<string, string>
}

/**
 * Decides what a batch changes. Each list is in the order of `newest`.
 * @param newest the newest version of each path in the batch
 * @param known what the index holds, by URI
 * @param resyncRevs by DID, the watermark of each account that has one
 */
export function decide(
  newest: readonly Version[],
  known: ReadonlyMap<string, Known>,
  resyncRevs: ReadonlyMap<string, string>,
): Decisions {
  const decisions: Decisions = {
    fresh: [],
    replaced: [],
    confirmed: [],
    removed: [],
    tombstoned: [],
    doubted: [],
    resurrected: [],
    stale: 0,
    repeated: [],
    past: [],
    held: new Map(),
  }
  for (const version of newest) {
    decideOne(decisions, version, known.get(version.uri), resyncRevs.get(version.did))
  }
  return decisions
}

function decideOne(
  decisions: Decisions,
  version: Version,
  known: Known | undefined,
  resyncRev: string | undefined,
): void {
  const { fresh, replaced, confirmed, removed, tombstoned, resurrected } = decisions
  if (known && known.rev !== null && known.rev >= version.rev) {
    decisions.stale++
    if (known.rev === version.rev) decisions.repeated.push(version)
    else decisions.past.push(endedBy(supersededBy(version, known, known.rev), resyncRev))
    return
  }
  if (resyncRev !== undefined && version.rev < resyncRev && dropBelowWatermark(decisions, version, known, resyncRev))
    return
  // A rev at or below the watermark may come from an export, so it does not tell when the version was written.
  if (known && known.rev !== null && known.rev > (resyncRev ?? '')) decisions.held.set(version.uri, known.rev)
  if (known?.state === 'living' && known.doubt) decisions.past.push(past(deletionOf(version, known.doubt), version))
  if (!version.content) {
    if (known?.state === 'living') removed.push(version)
    // Between the two the path was written anew, as a rule by a commit that is still to come. The first one leaves a
    // gap.
    if (known?.state === 'deleted') decisions.past.push(past(deletionOf(version, known), version))
    tombstoned.push(version)
    return
  }
  if (known?.state !== 'living') {
    fresh.push(version)
    if (known) {
      resurrected.push(version)
      decisions.past.push(past(deletionOf(version, known), version))
    }
    return
  }
  if (known.doubt) resurrected.push(version)
  if (known.cid !== version.content.cid) replaced.push(version)
  // An export repeats whole repositories. To write every row for its rev alone would double the work of a resync. An
  // older live event could still undo such a row, but the watermark of the resync stops that event.
  else if (!version.fromExport || known.rev === null || known.doubt) {
    // The same content was written again: only the time changes, by which some collections are judged. A row of another
    // indexer has no time except the one that its record claims, and an export claims the same time again. So of such
    // rows only posts (`derive`) are written, to be judged.
    const { derive, remembers } = version.content.indexed?.plugin ?? {}
    if (derive || (remembers && !(version.fromExport && known.rev === null))) replaced.push(version)
    else confirmed.push(version)
  } else decisions.stale++
}

/**
 * Decides about a version below the watermark: the export of a resync says what exists. A create or update is dropped.
 * It counts as ended at the watermark, unless a deletion says that it ended before. A deletion of a path that the index
 * does not hold is applied: it says no more than the export does.
 * @returns whether the version is dropped; if not, it is applied
 */
function dropBelowWatermark(
  decisions: Decisions,
  version: Version,
  known: Known | undefined,
  resyncRev: string,
): boolean {
  if (version.fromExport && isSameAsLiving(version, known) && !known.doubt) {
    decisions.stale++
    return true
  }
  decisions.past.push(supersededBy(version, known, resyncRev))
  // A `null` rev is excluded: if the export held that record, the record would have got the export's rev.
  const isInDoubt = !version.content && known?.state === 'living' && known.rev !== null
  if (isInDoubt) decisions.doubted.push(version)
  // A later commit of what the export has: by that one the export has it.
  const isLaterCommit =
    !version.fromExport && isSameAsLiving(version, known) && version.content!.indexed?.plugin.remembers !== undefined
  const isOver = isInDoubt || (version.content !== undefined && !isLaterCommit)
  if (isOver) decisions.stale++
  return isOver
}

/** Whether the version says what the index already has, from a known rev on. */
function isSameAsLiving({ content }: Version, known: Known | undefined): known is Known & { state: 'living' } {
  return known?.state === 'living' && known.rev !== null && known.cid === content?.cid
}

/**
 * The end of `past`, given the version that the index holds. The held version ends it earlier if its rev lies between
 * the two. It also ends it if the next version in the batch is an export that only repeats `past`.
 */
export function endedByHeld(past: Past, known: Known | undefined): Past {
  const rev = known?.rev ?? ''
  const isHeld = past.version.rev < rev && (rev < past.until || past.goesOn === true)
  return isHeld ? supersededBy(past.version, known, rev) : past
}

/**
 * Whether `past` has not ended after all. The export that follows it in the batch repeats it. Either the index already
 * holds that content, so the export is no news; or `past` is itself from an export, and the index holds nothing yet:
 * then the later export stands for it.
 */
export function isInForce({ version, goesOn }: Past, known: Known | undefined): boolean {
  if (goesOn !== true) return false
  if (known?.state !== 'living') return version.fromExport
  if (known.doubt || known.rev === null || known.cid !== version.content?.cid) return false
  return known.rev === version.rev || (version.fromExport && known.rev < version.rev)
}

function supersededBy(version: Version, known: Known | undefined, until: string): Past {
  const deleted = known?.state !== 'living'
  return { version, until, endedAt: known?.state === 'deleted' ? known.at : version.time, deleted }
}

/** The known deletion of this path, as a version. */
function deletionOf({ uri, did, collection, fromExport }: Version, { rev, at: time }: Deletion): Version {
  return { uri, did, collection, fromExport, rev, time }
}
