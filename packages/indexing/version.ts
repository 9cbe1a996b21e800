/** A version of a record as a batch brings it, and the order of the versions of one path. */
import type { Collection } from '@sluice/collections/define.ts'
import type { Entry, Notification, Row, Written } from '@sluice/collections/record.ts'

export interface Version {
  uri: string
  did: string
  collection: string
  /** The rev of the commit that wrote it. For a version from an export: the rev of the export's head. */
  rev: string
  /** When that commit was made, or when the export was read. */
  time: string
  fromExport: boolean
  /** The record at this version. Absent: the record was deleted. */
  content?: Content
}

export interface Content {
  cid: string
  /** The JSON as the record's producer wrote it: what `record.json` holds. */
  json: string
  /**
   * The plugin that makes rows of the record, and its view of the record. Absent for a collection whose records are
   * only stored.
   */
  indexed?: { plugin: Collection; entry: Entry }
}

/**
 * The version's entry with the rows that are to be inserted. Empty for a deletion, and for a record that is only
 * stored.
 */
export function writtenOf({ content }: Version): Written[] {
  const indexed = content?.indexed
  return indexed ? [{ entry: indexed.entry, rows: indexed.plugin.rows(indexed.entry) }] : []
}

/** A version that is no longer in force, with its end. If the version is a deletion, the path was empty until then. */
export interface Past {
  version: Version
  /**
   * When it ended: the rev of the version that superseded it, or an earlier export's head by which it had ended at the
   * latest (`endedBy`).
   */
  until: string
  /** Set when `until` is an export's head: the rev of the version that superseded this one. */
  supersededAt?: string
  /** The time of the superseding version. */
  endedAt: string
  /** Whether the superseding version is a deletion. */
  deleted: boolean
  /**
   * Every later version of the path in this batch came with an export and repeats this one. Such an export is no news
   * if the index holds that content already: then this version goes on until the version that the index holds.
   */
  goesOn?: boolean
}

/**
 * What stays of a version, apart from its fact. The record is left out: a few small deletions may name more records
 * than memory holds.
 */
export interface Ended extends Past {
  plugin: Collection
  entry: Omit<Entry, 'record'>
  /** Since when its fact holds (TID); without a fact, its rev. */
  since: string
  /** Its fact begins at its own rev, so it ends the version before it (`isOfRev`). */
  ends: boolean
  /** Its rows in tables whose rows stay after the record is gone. */
  places: Row[]
  /** Notifications that the record made while it lived, and those of its deletion. Empty unless it was deleted. */
  notifications: Notification[]
}

export interface Folded {
  /** One version for each path, sorted by URI: the order in which rows are looked up and locked. */
  newest: Version[]
  /** Versions that a later version of the same batch supersedes. */
  past: Past[]
}

/**
 * Finds the newest version of each path. Revs are TIDs, so their order is byte order. Of two versions at the same rev
 * the later one in the batch counts: both are the same commit seen twice, or come from exports of one head. A commit
 * counts before an export at its rev, wherever it stands: both say the same, and only the commit's rev tells when the
 * record was written. Commits and exports share a batch only where one stream takes both.
 */
export function fold(versions: Iterable<Version>): Folded {
  const newest = new Map<string, Version>()
  const several = new Map<string, Version[]>()
  for (const version of versions) {
    const seen = newest.get(version.uri)
    if (seen) {
      const all = several.get(version.uri)
      if (all) all.push(version)
      else several.set(version.uri, [seen, version])
      if (version.rev < seen.rev) continue
      if (version.rev === seen.rev && version.fromExport && !seen.fromExport) continue
    }
    newest.set(version.uri, version)
  }
  return { newest: [...newest.values()].sort(byUri), past: [...several.values()].flatMap(superseded) }
}

function superseded(versions: Version[]): Past[] {
  // A commit comes before exports at its rev: it says when the version before it ended.
  versions.sort((a, b) => (a.rev < b.rev ? -1 : a.rev > b.rev ? 1 : Number(a.fromExport) - Number(b.fromExport)))
  return versions.flatMap((version, i) => {
    let first: Version | undefined
    for (let at = i + 1; at < versions.length; at++) {
      const later = versions[at]!
      if (later.rev === version.rev) continue
      if (!repeats(later, version)) return [past(version, later)]
      first ??= later
    }
    return first ? [{ ...past(version, first), goesOn: true }] : []
  })
}

function repeats({ fromExport, content }: Version, version: Version): boolean {
  return fromExport && content !== undefined && content.cid === version.content?.cid
}

/** `version` with its end: `next` superseded it. */
export function past(version: Version, next: Version): Past {
  return { version, until: next.rev, endedAt: next.time, deleted: !next.content }
}

/**
 * Moves the end of `past` to an export's head, if the head lies between the version and its superseding version. By
 * that head the version had ended, or it went on as what that export holds (which is a version of its own).
 *
 * That is wrong for a version that is already in `past_fact`. An export that repeated the version leaves no trace
 * there. When the version is then redelivered after it was superseded, this export must not end it. So both ends are
 * passed on (`until` and `supersededAt`), and the statement that writes the fact picks one (`facts.ts`).
 */
export function endedBy(past: Past, exportRev: string | undefined): Past {
  const isOver = exportRev !== undefined && past.version.rev < exportRev && exportRev < past.until
  return isOver ? { ...past, until: exportRev, supersededAt: past.until } : past
}

function byUri(a: { uri: string }, b: { uri: string }): number {
  return a.uri < b.uri ? -1 : a.uri > b.uri ? 1 : 0
}
