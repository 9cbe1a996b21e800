/** Where settling starts: the records on which others may hang. */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Touched } from '@sluice/collections/depends.ts'
import type { Entry } from '@sluice/collections/record.ts'
import type { Version } from './version.ts'

export interface TouchedOptions {
  /** Their derived columns were computed with the batch. */
  derived?: boolean
  /** Their deletions are the newest version of their paths. */
  newest?: boolean
  /** By URI, the rev of the version that the index held before the batch. */
  held?: ReadonlyMap<string, string>
  /** Those versions whose path the index did not know. */
  first?: ReadonlySet<Version>
  /** Those versions that an export may have brought before them. */
  claimed?: ReadonlySet<Version>
}

/** Picks the versions that may affect other records. Most versions are likes, which affect none. */
export function touchedBy(
  collections: CollectionSet,
  versions: readonly Version[],
  { derived = false, newest = false, held, first, claimed }: TouchedOptions,
): Touched[] {
  const touched: Touched[] = []
  for (const version of versions) {
    const { uri, did, collection, rev, content } = version
    if (!collections.plugin(collection)?.affects) continue
    const entry = content?.indexed?.entry
    const before = held?.get(uri)
    const follows = entry ? entry.live && before !== undefined && before < rev : newest && !content
    const isFirst = first?.has(version) === true
    const claims = claimed?.has(version) === true
    touched.push({ uri, did, rev, derived, first: isFirst, follows, claims, ...(entry ? { entry } : {}) })
  }
  return touched
}

/** A record that was derived again, as a start for finding what hangs on it. */
export function rederived(entry: Entry, passesOn: boolean): Touched {
  return { uri: entry.uri, did: entry.did, rev: entry.rev, derived: true, passesOn, entry }
}

/** A record that was derived again and did not change. */
export function unchangedBy(entry: Entry): Touched {
  return { ...rederived(entry, false), same: true }
}

/**
 * A record that another transaction has written meanwhile. What hung on its earlier version may not have been derived
 * again.
 */
export function rewritten(uri: string): Touched {
  return { uri, did: uri.split('/', 3)[2]!, rev: '', derived: false, passesOn: true }
}
