/**
 * Hands over what a walk down a thread has found and has no room to judge (`derive-onward.ts`): named are records from which others, who are put off for it, come upon all of that again.
 *
 * Whoever takes a record goes on from all that hangs on it, whether or not that changes. So where one of two that are to be named hangs from the other, the other suffices; in a thread of 1,500 replies 460 were named without that, and 81
 * do. It stays so whatever becomes of the one in between: what is edited, or gone, is remembered to have hung there.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'

export interface HandedOver {
  /** Those from which it is to be gone on, ever since they were written. */
  from: string[]
  /** Those that hang from nothing by which anybody would find them: nothing is passed on to them, and whoever found them judges them. */
  stay: Set<string>
}

/** @param uris found, and not judged yet @throws TransientError, FatalError */
export async function handOver(
  db: DatabasePool,
  collections: CollectionSet,
  uris: ReadonlySet<string>,
): Promise<HandedOver> {
  const from = new Set<string>()
  const stay = new Set<string>()
  for await (const [uri, above] of eachAbove(db, collections, uris)) {
    if (above === null) stay.add(uri)
    // What is gone tells no more from what it hung, but what hangs on it is found by its name.
    else from.add(above ?? uri)
  }
  const above = new Map<string, string>()
  for await (const [uri, next] of eachAbove(db, collections, from)) if (next && from.has(next)) above.set(uri, next)
  return { from: topmost(from, above), stay }
}

/** Of these the ones above all others; of those that hang from each other in a circle, which strangers may make, and of all below it, one. */
export function topmost(uris: Iterable<string>, above: ReadonlyMap<string, string>): string[] {
  const top: string[] = []
  /** By whom each was come upon first, on the way up. */
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

/** From what each hangs; null: from nothing, or from what is no record of its collection, where nobody would look for it; undefined: it is gone. */
async function* eachAbove(
  db: DatabasePool,
  collections: CollectionSet,
  uris: ReadonlySet<string>,
): AsyncGenerator<[uri: string, above: string | null | undefined]> {
  for (const [nsid, ofCollection] of Map.groupBy(uris, collectionOfUri)) {
    const plugin = collections.plugin(nsid)
    // Of others nothing is derived.
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
