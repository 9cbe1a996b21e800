/** The index as the indexer opens it, on a database of a test. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool, type PoolOptions } from '@sluice/database/pool.ts'
import type { Index } from '../apply-batch.ts'
import { KnownActors } from '../own.ts'

export function indexOn(url: string, options: Partial<PoolOptions> = {}): Index & AsyncDisposable {
  const db = new DatabasePool({ url, schema: 'bsky', size: 4, role: 'test', byKey: true, ...options })
  const index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  return { ...index, [Symbol.asyncDispose]: () => db.close() }
}
