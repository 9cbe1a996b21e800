/**
 * Begins a bulk load: the first load of a network into an empty index.
 *
 * Secondary indexes are more than half of what a row costs (`docs/benchmarks.md`), and what a record means for other
 * records is cheaper to find out once, at the end. So indexes that no batch needs while loading are dropped, and their
 * definitions are kept. Primary keys stay, and so do the indexes that find the rows of a record: newer versions and
 * deletions are applied at once, as always.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { readPhase, stopBatches } from './phase.ts'

export interface DroppedIndex {
  name: string
  table: string
  definition: string
  isUnique: boolean
  isConstraint: boolean
}

/**
 * Begins a bulk load. Returns the indexes that it dropped; none if a load is under way already.
 * @throws RefusedError `bulk-not-empty`
 */
export async function beginBulkLoad(db: DatabasePool, collections: CollectionSet): Promise<DroppedIndex[]> {
  return await transaction(db, { doing: 'beginning a bulk load' }, async (tx) => {
    await stopBatches(tx)
    if (await readPhase(tx)) return []
    const { rows } = await tx.query(`select from record limit 1`)
    if (rows.length > 0) {
      throw new RefusedError(
        'bulk-not-empty',
        `a bulk load begins with an empty index, and there are records in schema ${db.schema}. Next: load into a new database or schema, or load without`,
      )
    }
    await tx.query(`insert into bulk_load (id, phase, "startedAt") values (1, 'loading', $1)`, [
      new Date().toISOString(),
    ])
    const dropped = await findDroppable(tx, db.schema, collections)
    for (const index of dropped) {
      const { name, table, definition, isUnique, isConstraint } = index
      await tx.query(
        `insert into bulk_index (name, "table", definition, "isUnique", "isConstraint") values ($1, $2, $3, $4, $5)`,
        [name, table, definition, isUnique, isConstraint],
      )
      await tx.query(isConstraint ? `alter table "${table}" drop constraint "${name}"` : `drop index "${name}"`)
    }
    return dropped
  })
}

async function findDroppable(tx: Transaction, schema: string, collections: CollectionSet): Promise<DroppedIndex[]> {
  const owners = new Map([
    ['record', 'uri'],
    ['notification', 'recordUri'],
    ...collections.plugins.flatMap(({ tables }) =>
      tables.filter((table) => !table.outlives).map((table) => [table.name, table.owner] as const),
    ),
  ])
  // `gated_reply` and `past_fact` keep their indexes: they have few rows, and batches look rows up there while loading.
  owners.delete('gated_reply')
  const { rows } = await tx.query<DroppedIndex & { first: string }>(INDEXES, [schema, [...owners.keys()]])
  return rows.filter(({ table, first }) => first !== owners.get(table))
}

const INDEXES = `
  select i.relname as name, t.relname as "table", pg_get_indexdef(i.oid) as definition, x.indisunique as "isUnique",
    exists (select from pg_constraint c where c.conindid = i.oid) as "isConstraint",
    coalesce((select attname::text from pg_attribute a where a.attrelid = t.oid and a.attnum = x.indkey[0]), '') as first
  from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid
  where t.relnamespace = quote_ident($1)::regnamespace and t.relname = any($2::text[]) and not x.indisprimary
  order by t.relname, i.relname`
