/**
 * Resolves duplicates. Of several rows that say the same, the one with the lowest URI stays. The others go to
 * `duplicate_record`, as `contend.ts` would have decided. All rows of a key belong to one account, which is locked
 * meanwhile, as a batch locks it.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection } from '@sluice/collections/define.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import { NO_CONTEST, writeContest } from '../contend.ts'
import { Deltas } from '../deltas.ts'
import { displaced, removeRows } from '../remove.ts'
import type { StepContext } from './step.ts'

const KEYS = 500
/** How many keys are held in memory at a time: a network has millions of likes that exist twice. */
const HELD_KEYS = 50_000
/** A column beside those of the key: not every key contains its account. */
const OWNER = 'owner of the key'

/**
 * Resolves the duplicates of every collection with unique keys, `KEYS` keys in each transaction. If it is interrupted,
 * it can be called again, and finds those that are left.
 * @throws TransientError; the signal's reason between two transactions
 */
export async function tellApart(
  { db, collections, signal, onProgress }: Omit<StepContext, 'jobs'>,
  heldKeys: number = HELD_KEYS,
): Promise<void> {
  // The statements are those of the data path. The first of them are planned while `duplicate_record` is still empty.
  // Other connections could plan to read all of it then, which costs no more than a look by key.
  await using byKey = db.alike({ byKey: true, size: 1 })
  for (const plugin of collections.plugins.filter(({ unique }) => unique.length > 0)) {
    let keys: Record<string, string>[] = []
    let resolvedKeys = 0
    do {
      keys = await duplicatedKeys(db, plugin, keys.at(-1), heldKeys)
      for (let at = 0; at < keys.length; at += KEYS) {
        signal.throwIfAborted()
        onProgress({ step: 'duplicates', at: `${plugin.nsid} ${resolvedKeys + at}` })
        const part = keys.slice(at, at + KEYS)
        await transaction(byKey, { doing: 'telling duplicates apart' }, (tx) =>
          keepLowest(tx, collections, plugin, part),
        )
      }
      resolvedKeys += keys.length
    } while (keys.length === heldKeys)
  }
}

/** The next keys that more than one row has, sorted: the order of the index that stands in for the unique one. */
async function duplicatedKeys(
  db: DatabasePool,
  { tables: [primary], unique }: Collection,
  after: Record<string, string> | undefined,
  most: number,
): Promise<Record<string, string>[]> {
  const columns = unique.map((column) => `"${column}"`).join(', ')
  const values = after ? unique.map((column) => after[column]) : []
  const isNext = after ? `where (${columns}) > (${unique.map((_, i) => `$${i + 1}`).join(', ')})` : ''
  const { rows } = await db.query<Record<string, string>>(
    `select ${columns}, min(creator) as "${OWNER}" from "${primary!.name}" ${isNext}
     group by ${columns} having count(*) > 1 order by ${columns} limit ${most}`,
    values,
  )
  return rows
}

async function keepLowest(
  tx: Transaction,
  collections: CollectionSet,
  plugin: Collection,
  keys: readonly Record<string, string>[],
): Promise<void> {
  await tx.query(`select from actor_sync where did = any($1::text[]) order by did for update`, [
    [...new Set(keys.map((key) => key[OWNER]))],
  ])
  const columns = plugin.unique.map((column) => `"${column}"`)
  const { rows } = await tx.query<{ uri: string; cid: string; indexedAt: string; duplicateOf: string }>(
    `select uri, cid, "indexedAt", "duplicateOf" from (
       select uri, cid, "indexedAt", min(uri collate "C") over (partition by ${columns.join(', ')}) as "duplicateOf"
       from unnest(${columns.map((_, i) => `$${i + 1}::text[]`).join(', ')}) as key (${columns.join(', ')})
       join "${plugin.tables[0]!.name}" using (${columns.join(', ')})
     ) as held where uri collate "C" <> "duplicateOf"`,
    plugin.unique.map((column) => keys.map((key) => key[column])),
  )
  const deltas = new Deltas()
  const uris = rows.map(({ uri }) => uri)
  await removeRows(tx, collections, uris.map(displaced), deltas)
  writeContest(tx, { ...NO_CONTEST, waiting: rows })
  deltas.flush(tx)
}
