/** What settling looks from: records that others may hang on. */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Entry, Touched } from '@sluice/collections/define.ts'
import type { Version } from './version.ts'

export interface TouchedOptions {
  /** Their columns were derived with the batch. */
  derived?: boolean
  /** They are deletions, and nothing came after them. */
  newest?: boolean
  /** By URI, the rev of what stood there before the batch. */
  held?: ReadonlyMap<string, string>
  /** Those of whose path nothing was known. */
  first?: ReadonlySet<Version>
}

/** Of these versions those that may affect others: most are likes. */
export function touchedBy(
  collections: CollectionSet,
  versions: readonly Version[],
  { derived = false, newest = false, held, first }: TouchedOptions,
): Touched[] {
  const touched: Touched[] = []
  for (const version of versions) {
    const { uri, did, collection, rev, content } = version
    if (!collections.plugin(collection)?.affects) continue
    const entry = content?.indexed?.entry
    const before = held?.get(uri)
    const follows = entry ? entry.live && before !== undefined && before < rev : newest && !content
    touched.push({ uri, did, rev, derived, first: first?.has(version) === true, follows, ...(entry ? { entry } : {}) })
  }
  return touched
}

/** A record that was derived again, as something that others may hang on. */
export function rederived(entry: Entry, passesOn: boolean): Touched {
  return { uri: entry.uri, did: entry.did, rev: entry.rev, derived: true, passesOn, entry }
}

/** One that was derived again and found to be as it was. */
export function unchangedBy(entry: Entry): Touched {
  return { ...rederived(entry, false), same: true }
}

/** A record that others have written meanwhile: whatever hung on what it was may have been left undone. */
export function rewritten(uri: string): Touched {
  return { uri, did: uri.split('/', 3)[2]!, rev: '', derived: false, passesOn: true }
}
