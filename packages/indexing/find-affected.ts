/** Asks the plugins which records depend on given records. */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import { type Affected, type Room, type Touched, type Unseen } from '@sluice/collections/depends.ts'
import type { Session } from '@sluice/database/pool.ts'
import { sqlOf } from './sql.ts'

/**
 * Finds the records that may depend on these, which may be of any collections.
 * @param roomFor the room for one collection, given how many of its versions are asked about; default: no limit
 */
export async function findAffected(
  session: Session,
  collections: CollectionSet,
  touched: readonly Touched[],
  unseen: Unseen,
  roomFor?: (versions: number) => Room,
): Promise<Required<Affected>> {
  if (touched.length === 0) return { uris: [], marked: [], beyond: [] }
  const byCollection = Map.groupBy(touched, ({ uri }) => collectionOfUri(uri))
  const sql = sqlOf(session)
  const found = await Promise.all(
    collections.plugins.flatMap(({ nsid, affects }) => {
      const ofCollection = byCollection.get(nsid)
      return ofCollection && affects
        ? [affects(sql, ofCollection, { unseen, room: roomFor?.(ofCollection.length) })]
        : []
    }),
  )
  return {
    uris: found.flatMap(({ uris }) => uris),
    marked: found.flatMap(({ marked = [] }) => marked),
    beyond: found.flatMap(({ beyond }) => beyond),
  }
}
