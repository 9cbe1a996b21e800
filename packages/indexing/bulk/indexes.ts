/**
 * Builds the indexes that a bulk load dropped, concurrently, while batches go on. An interrupted build leaves an
 * invalid index, which is dropped first.
 */
import type { DatabasePool } from '@sluice/database/pool.ts'
import { sideBySide } from '@sluice/runtime/side-by-side.ts'
import type { DroppedIndex } from './begin.ts'
import type { StepContext } from './step.ts'

/**
 * Vacuums the tables: this marks the pages whose rows are visible to everybody, so that a count can read indexes alone.
 * It is done now, while there are few indexes to clean.
 */
export async function vacuumTables({ db, signal, onProgress, jobs }: StepContext): Promise<void> {
  await sideBySide(await droppedIndexes(db), jobs, async ([{ table }]) => {
    signal.throwIfAborted()
    onProgress({ step: 'vacuum', at: table })
    await db.query(`vacuum "${table}"`)
  })
}

/**
 * Builds the plain indexes, and for each unique key a plain index in place of the unique one. A unique index cannot be
 * built while batches add duplicates, and a plain index cannot be turned into a unique one.
 *
 * Also analyzes the tables, one by one: a single ANALYZE of all reads one table after the other, and took as long as
 * all builds.
 */
export async function buildIndexes({ db, signal, onProgress, jobs }: StepContext): Promise<void> {
  const dropped = new Map((await droppedIndexes(db)).map((ofTable) => [ofTable[0].table, ofTable]))
  const others = (await tablesOf(db)).filter((table) => !dropped.has(table))
  await sideBySide([...dropped.keys(), ...others], jobs, async (table) => {
    for (const index of dropped.get(table) ?? []) {
      signal.throwIfAborted()
      onProgress({ step: 'indexes', at: index.name })
      await build(db, index.isUnique ? standIn(index) : index)
    }
    await db.query(`analyze "${table}"`)
  })
}

/** Builds the unique indexes. By now no key exists twice, and no batch adds a duplicate. */
export async function buildUniqueIndexes({ db, signal, onProgress, jobs }: StepContext): Promise<void> {
  await sideBySide(await droppedIndexes(db), jobs, async (ofTable) => {
    for (const index of ofTable.filter(({ isUnique }) => isUnique)) {
      signal.throwIfAborted()
      onProgress({ step: 'unique-indexes', at: index.name })
      if (!(await isConstraint(db, index))) {
        await build(db, index)
        if (index.isConstraint) {
          await db.query(
            `alter table "${index.table}" add constraint "${index.name}" unique using index "${index.name}"`,
          )
        }
      }
      await db.query(`drop index concurrently if exists "${standIn(index).name}"`)
    }
  })
}

function standIn(index: DroppedIndex): DroppedIndex {
  const name = `bulk_${index.name}`.slice(0, 63)
  const definition = index.definition
    .replace(/^CREATE UNIQUE INDEX/, 'CREATE INDEX')
    .replace(/INDEX ("[^"]+"|\S+) ON/, `INDEX "${name}" ON`)
  return { ...index, name, definition, isUnique: false, isConstraint: false }
}

async function build(db: DatabasePool, { name, definition }: DroppedIndex): Promise<void> {
  const { rows } = await db.query<{ valid: boolean }>(
    `select indisvalid as valid from pg_index where indexrelid = to_regclass($1)`,
    [`"${name}"`],
  )
  if (rows[0]?.valid) return
  if (rows[0]) await db.query(`drop index concurrently "${name}"`)
  await db.query(definition.replace(/^CREATE (UNIQUE )?INDEX/, 'CREATE $1INDEX CONCURRENTLY'))
}

async function isConstraint(db: DatabasePool, { table, name }: DroppedIndex): Promise<boolean> {
  const { rows } = await db.query(`select from pg_constraint where conrelid = to_regclass($1) and conname = $2`, [
    `"${table}"`,
    name,
  ])
  return rows.length > 0
}

async function tablesOf(db: DatabasePool): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select relname as name from pg_class where relnamespace = quote_ident($1)::regnamespace and relkind = 'r' order by relpages desc`,
    [db.schema],
  )
  return rows.map(({ name }) => name)
}

/**
 * The dropped indexes by table, since two indexes of one table cannot be built at once. Largest table first, so that
 * the build that ends last is a small one.
 */
async function droppedIndexes(db: DatabasePool): Promise<[DroppedIndex, ...DroppedIndex[]][]> {
  const { rows } = await db.query<DroppedIndex>(
    `select name, "table", definition, "isUnique", "isConstraint" from bulk_index
     order by pg_table_size(to_regclass(quote_ident("table"))) desc, "table", name`,
  )
  return [...Map.groupBy(rows, ({ table }) => table).values()] as [DroppedIndex, ...DroppedIndex[]][]
}
