/**
 * Hands over what a walk down a thread has found but has no room to judge (`derive-onward.ts`). The result names
 * records to put off: whoever settles them later finds all those posts again.
 *
 * Whoever takes a record goes on from everything that hangs on it, changed or not. So of two records to be named, if
 * one hangs from the other, the other one is enough. In a thread of 1,500 replies this names 81 records; without it,
 * 460. It holds whatever happens to the posts in between: `past_fact` remembers that an edited or deleted post hung
 * there.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'

export interface HandedOver {
  /** Records from which somebody must go on, whenever what hangs on them was written. */
  from: string[]
  /**
   * Records that hang from nothing from which anybody would find them. No change is passed on to them, so the walk that
   * found them judges them itself.
   */
  stay: Set<string>
}

/**
 * Names the records from which all of these are found again.
 * @param uris records that were found and are not judged yet
 * @throws TransientError, FatalError
 */
export async function handOver(
  db: DatabasePool,
  collections: CollectionSet,
  uris: ReadonlySet<string>,
): Promise<HandedOver> {
  const from = new Set<string>()
  const stay = new Set<string>()
  for await (const [uri, above] of eachAbove(db, collections, uris)) {
    if (above === null) stay.add(uri)
    // `undefined`: the record is gone, and nobody can tell any more from what it hung. But what hangs on it is found by
    // its URI.
    else from.add(above ?? uri)
  }
  const above = new Map<string, string>()
  for await (const [uri, next] of eachAbove(db, collections, from)) if (next && from.has(next)) above.set(uri, next)
  return { from: topmost(from, above), stay }
}

/**
 * Keeps only the topmost of these records. Strangers may make records that hang from each other in a circle: of a
 * circle, and of everything below it, one is kept.
 */
export function topmost(uris: Iterable<string>, above: ReadonlyMap<string, string>): string[] {
  const top: string[] = []
  /** For each record visited on the way up: from which of `uris` it was first reached. */
  const passedBy = new Map<string, string>()
  for (const uri of uris) {
    let last = uri
    let at: string | undefined = uri
    while (at !== undefined && !passedBy.has(at)) {
      passedBy.set(at, uri)
      last = at
      at = above.get(at)
    }
    if (at === undefined || passedBy.get(at) === uri) top.push(last)
  }
  return top
}

/**
 * Yields from which record each hangs. `null`: from none, or from a record of another collection, where nobody would
 * look for it. `undefined`: the record is gone.
 */
async function* eachAbove(
  db: DatabasePool,
  collections: CollectionSet,
  uris: ReadonlySet<string>,
): AsyncGenerator<[uri: string, above: string | null | undefined]> {
  for (const [nsid, ofCollection] of Map.groupBy(uris, collectionOfUri)) {
    const plugin = collections.plugin(nsid)
    // Other collections have no derived columns.
    if (!plugin?.derive) continue
    for (let at = 0; at < ofCollection.length; at += AT_ONCE) {
      const part = ofCollection.slice(at, at + AT_ONCE)
      const { rows } = await db.query<{ uri: string; above: string | null }>(plugin.hangsFrom, [part])
      const above = new Map(rows.map((row) => [row.uri, row.above]))
      for (const uri of part) {
        const of = above.get(uri)
        yield [uri, of && collectionOfUri(of) !== nsid ? null : of]
      }
    }
  }
}

const AT_ONCE = 1_000
