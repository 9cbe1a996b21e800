/**
 * Decides what a batch changes, given what the index holds. Pure.
 *
 * The rule, for each record path: the highest rev seen wins, deletions included. So any order of live, exported and redelivered events ends
 * in the same rows.
 */
import { endedBy, past, type Past, type Version } from './version.ts'

/** What the index knows of one path. */
export type Known =
  /** It lives. A `null` rev was written by another indexer, before ours: anything is newer. `doubt`: the first of its `doubted` deletions. */
  { state: 'living'; rev: string | null; cid: string; doubt?: Deletion } | ({ state: 'deleted' } & Deletion)

export interface Deletion {
  rev: string
  at: string
}

export interface Decisions {
  /** No row yet: insert. */
  fresh: Version[]
  /** A row with other content: remove and insert. */
  replaced: Version[]
  /** A row with this very content at a lower rev: only what tells its time moves. */
  confirmed: Version[]
  /** A row of a record that is gone: remove. */
  removed: Version[]
  /** Paths whose tombstone is set or raised: all deletions that are news. */
  tombstoned: Version[]
  /**
   * Deletions of what lives, below the watermark of a resync. Was the record written anew after them? If the export has it with the same content, its row was left as it was;
   * and the part of the export that tells may be still to come. So the row stays, with a tombstone beside it until the next version of the path. (It stays wrongly when the export
   * has the path with a version that is refused: as it does where the deletion never comes.)
   */
  doubted: Version[]
  /** Paths whose tombstone ends, because the record was written anew. */
  resurrected: Version[]
  /** How many were no news. */
  stale: number
  /** Among these: written by this very commit before. Their batch may have died halfway. */
  repeated: Version[]
  /** Versions that were in force once: those that arrive late, and deletions that a new record ends. */
  past: Past[]
  /**
   * By URI, the rev of what the index held when something newer came. Not of what another indexer wrote, nor of what an export may have brought: nobody knows from
   * when on that was in force.
   */
  held: Map<string, string>
}

/**
 * What a batch changes; each list is in the order of `newest`.
 * @param newest the newest version of each path in the batch
 * @param known what the index holds, by URI
 * @param resyncRevs the watermark of each account that has one, by DID
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
  const { fresh, replaced, confirmed, removed, tombstoned, doubted, resurrected } = decisions
  if (known && known.rev !== null && known.rev >= version.rev) {
    decisions.stale++
    if (known.rev === version.rev) decisions.repeated.push(version)
    else decisions.past.push(endedBy(supersededBy(version, known, known.rev), resyncRev))
    return
  }
  // A resync's export at this rev or a higher one tells what exists. What is dropped is taken to end there, unless a deletion says that it ended before; of what is not there
  // that is no more than the export says.
  if (resyncRev !== undefined && version.rev < resyncRev) {
    decisions.past.push(supersededBy(version, known, resyncRev))
    // In the export, what another indexer wrote would have got its rev.
    const isInDoubt = !version.content && known?.state === 'living' && known.rev !== null
    if (isInDoubt) doubted.push(version)
    if (isInDoubt || version.content) {
      decisions.stale++
      return
    }
  }
  // At the watermark or below it stands what an export has brought.
  if (known && known.rev !== null && known.rev > (resyncRev ?? '')) decisions.held.set(version.uri, known.rev)
  if (known?.state === 'living' && known.doubt) decisions.past.push(past(deletionOf(version, known.doubt), version))
  if (!version.content) {
    if (known?.state === 'living') removed.push(version)
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
  // An export repeats whole repositories: writing every row for its rev alone would double the work of a resync. What an older live event could
  // still undo, the resync's watermark stops.
  else if (!version.fromExport || known.rev === null || known.doubt) {
    // Written anew with the same content: nothing changes but the time, by which some collections are judged. What another indexer wrote has none but that which the record
    // claims, and from an export it has that again: of these only posts are written, to be judged.
    const { derive, remembers } = version.content.indexed?.plugin ?? {}
    if (derive || (remembers && !(version.fromExport && known.rev === null))) replaced.push(version)
    else confirmed.push(version)
  } else decisions.stale++
}

/** As it ended by what the index holds, where that came after it and before what follows it in its batch, or after an export that only repeats it. */
export function endedByHeld(past: Past, known: Known | undefined): Past {
  const rev = known?.rev ?? ''
  const isHeld = past.version.rev < rev && (rev < past.until || past.goesOn === true)
  return isHeld ? supersededBy(past.version, known, rev) : past
}

/**
 * It has not ended: the export that follows it in its batch repeats it, and is no news, since the index holds that already; or stands for it, where of two exports the index holds
 * nothing.
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

/** The deletion that is known of this path, as a version. */
function deletionOf({ uri, did, collection, fromExport }: Version, { rev, at: time }: Deletion): Version {
  return { uri, did, collection, fromExport, rev, time }
}
