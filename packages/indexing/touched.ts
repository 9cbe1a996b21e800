/** What settling looks from: records that others may hang on. */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Entry, Touched } from '@sluice/collections/define.ts'
import type { Version } from './version.ts'

/**
 * Of these versions those that may affect others: most are likes.
 * @param held by URI, the rev of what stood there before the batch
 */
export function touchedBy(
  collections: CollectionSet,
  versions: readonly Version[],
  derived: boolean,
  held?: ReadonlyMap<string, string>,
): Touched[] {
  const touched: Touched[] = []
  for (const { uri, did, collection, rev, content } of versions) {
    if (!collections.plugin(collection)?.affects) continue
    const entry = content?.indexed?.entry
    const before = held?.get(uri)
    const follows = entry?.live === true && before !== undefined && before < rev
    touched.push({ uri, did, rev, derived, follows, ...(entry ? { entry } : {}) })
  }
  return touched
}

/** A record that was derived again, as something that others may hang on. */
export function again(entry: Entry, passesOn: boolean): Touched {
  return { uri: entry.uri, did: entry.did, rev: entry.rev, derived: true, passesOn, entry }
}
