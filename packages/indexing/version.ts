/** One version of one record, as a batch brings it, and how versions of a record path are ordered. */
import type { Collection, Entry, Written } from '@sluice/collections/define.ts'

export interface Version {
  uri: string
  did: string
  collection: string
  /** The commit that wrote it; the head of the export for one that came with an export. */
  rev: string
  /** When that commit was made, or the export read. */
  time: string
  fromExport: boolean
  /** What the record is at this version; absent: it was deleted. */
  content?: Content
}

export interface Content {
  cid: string
  /** The record as its producer wrote it: what `record.json` holds. */
  json: string
  /** The plugin that makes rows of it, with its view of the record; absent for a collection that is only stored. */
  indexed?: { plugin: Collection; entry: Entry }
}

/** Its record with the rows that are to be inserted; none for a deletion, or a record that is only stored. */
export function writtenOf({ content }: Version): Written[] {
  const indexed = content?.indexed
  return indexed ? [{ entry: indexed.entry, rows: indexed.plugin.rows(indexed.entry) }] : []
}

/** A version that is no longer in force, and the end of its time. Of a deletion: the path was empty until then. */
export interface Past {
  version: Version
  /** The rev that superseded it, or the head of an export before that, by which it had ended at the latest (`endedBy`). */
  until: string
  /** Where `until` is such a head: the rev that superseded it. */
  supersededAt?: string
  /** When that was. */
  endedAt: string
  /** It was superseded by a deletion, not by another version. */
  deleted: boolean
  /** What follows it is an export that repeats it: where that is no news it went on until what the index holds. */
  goesOn?: boolean
}

export interface Folded {
  /** One of each path, by URI: the order in which rows are looked for and locked. */
  newest: Version[]
  /** Versions that a later one of the same batch supersedes. */
  past: Past[]
}

/**
 * The newest version of each path. Revs are TIDs, so their order is byte order. Of two at the same rev the later one in the
 * batch counts: it is the same commit seen twice, or an export taken at that commit.
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
    }
    newest.set(version.uri, version)
  }
  return { newest: [...newest.values()].sort(byUri), past: [...several.values()].flatMap(superseded) }
}

function superseded(versions: Version[]): Past[] {
  versions.sort((a, b) => (a.rev < b.rev ? -1 : a.rev > b.rev ? 1 : 0))
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

/** `version` as superseded by `next`. */
export function past(version: Version, next: Version): Past {
  return { version, until: next.rev, endedAt: next.time, deleted: !next.content }
}

/**
 * As it ended at the latest if there is an export of that rev: by then it was over, or went on as what that has. Not so where it is remembered already: then the export may have repeated it, which
 * leaves no trace, and it comes again after it was superseded. So both ends go on, and what is remembered decides (`remember.ts`).
 */
export function endedBy(past: Past, exportRev: string | undefined): Past {
  const isOver = exportRev !== undefined && past.version.rev < exportRev && exportRev < past.until
  return isOver ? { ...past, until: exportRev, supersededAt: past.until } : past
}

function byUri(a: { uri: string }, b: { uri: string }): number {
  return a.uri < b.uri ? -1 : a.uri > b.uri ? 1 : 0
}
