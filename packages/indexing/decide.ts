/**
 * Decides what a batch changes, given what the index holds. Pure.
 *
 * The rule, for each record path: the highest rev seen wins, deletions included. So any order of live, exported and redelivered events ends
 * in the same rows.
 */
import { byUri, past, type Past, type Version } from './version.ts'

/** What the index knows of one path. */
export type Known =
  /** It lives. A `null` rev was written by another indexer, before ours: anything is newer. */
  | { state: 'living'; rev: string | null; cid: string }
  /** It was deleted at this rev. */
  | { state: 'deleted'; rev: string; at: string }

export interface Decisions {
  /** No row yet: insert. */
  fresh: Version[]
  /** A row with other content: remove and insert. */
  replaced: Version[]
  /** A row with this very content at a lower rev: only the rev moves. */
  confirmed: Version[]
  /** A row of a record that is gone: remove. */
  removed: Version[]
  /** Paths whose tombstone is set or raised: all deletions that are news. */
  entombed: Version[]
  /** Paths whose tombstone ends, because the record was written anew. */
  exhumed: Version[]
  /** How many were no news. */
  stale: number
  /** Among these: written by this very commit before. Their batch may have died halfway. */
  repeated: Version[]
  /** Versions that were in force once: those that arrive late, and deletions that a new record ends. */
  past: Past[]
}

export function decide(
  newest: ReadonlyMap<string, Version>,
  known: ReadonlyMap<string, Known>,
  resyncRevs: ReadonlyMap<string, string>,
): Decisions {
  const decisions: Decisions = {
    fresh: [],
    replaced: [],
    confirmed: [],
    removed: [],
    entombed: [],
    exhumed: [],
    stale: 0,
    repeated: [],
    past: [],
  }
  for (const version of [...newest.values()].sort(byUri)) {
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
  const { fresh, replaced, confirmed, removed, entombed, exhumed } = decisions
  if (known && known.rev !== null && known.rev >= version.rev) {
    decisions.stale++
    if (known.rev === version.rev) decisions.repeated.push(version)
    else decisions.past.push(supersededBy(version, known, known.rev))
    return
  }
  if (!version.content) {
    if (known?.state === 'living') removed.push(version)
    entombed.push(version)
    // What was dropped below the watermark was taken to end there: it ended here.
    if (resyncRev !== undefined && version.rev < resyncRev) decisions.past.push(supersededBy(version, known, resyncRev))
    return
  }
  // A resync's export at this rev or a higher one tells what exists. A deletion is not dropped: it says no more than that export.
  if (resyncRev !== undefined && version.rev < resyncRev) {
    decisions.stale++
    decisions.past.push(supersededBy(version, known, resyncRev))
    return
  }
  if (known?.state !== 'living') {
    fresh.push(version)
    if (known) {
      exhumed.push(version)
      decisions.past.push(past(deletionOf(version, known), version))
    }
    return
  }
  if (known.cid !== version.content.cid) replaced.push(version)
  // An export repeats whole repositories: writing every row for its rev alone would double the work of a resync. What an older live event could
  // still undo, the resync's watermark stops.
  else if (!version.fromExport || known.rev === null) {
    // Written anew with the same content: nothing changes but the time, by which some collections are judged.
    if (version.content.indexed?.plugin.derive) replaced.push(version)
    else confirmed.push(version)
  } else decisions.stale++
}

function supersededBy(version: Version, known: Known | undefined, until: string): Past {
  const deleted = known?.state !== 'living'
  return { version, until, endedAt: known?.state === 'deleted' ? known.at : version.time, deleted }
}

/** The deletion whose tombstone this version ends. */
function deletionOf(
  { uri, did, collection, fromExport }: Version,
  { rev, at: time }: Known & { state: 'deleted' },
): Version {
  return { uri, did, collection, fromExport, rev, time }
}
