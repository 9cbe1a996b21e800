/** Which indexes of our schema are missing or not valid. */
import { appviewTables } from '@sluice/database/appview/schema.ts'
import { UNREAD_INDEXES } from '@sluice/database/migrations/0010-unread-indexes.ts'
import { OWN_STATEMENTS } from '@sluice/database/migrations/list.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'

export interface MissingIndex {
  name: string
  statement: string
  invalid: boolean
  /** The process that is building the index at this moment. The index is not valid until the build is done. */
  builtBy: number | undefined
}

/** The indexes that are missing or not valid, with the statements that make them. @throws TransientError, FatalError */
export async function readMissingIndexes(db: DatabasePool): Promise<MissingIndex[]> {
  const { rows } = await db.query<IndexState>(INDEXES, [db.schema])
  const found = new Map(rows.map((index) => [index.name, index]))
  return [...STATEMENTS].flatMap(([name, statement]) => {
    const index = found.get(name)
    if (index?.valid) return []
    const concurrently = statement.replace(/ index (\w+) on /, ` index concurrently $1 on ${db.schema}.`)
    return [{ name, statement: concurrently, invalid: index !== undefined, builtBy: index?.builtBy ?? undefined }]
  })
}

interface IndexState {
  name: string
  valid: boolean
  builtBy: number | null
}

/**
 * Without pg_read_all_stats the build of another role does not show its index: any index that is not valid may be the
 * one it builds.
 */
const INDEXES = `
  select c.relname as name, i.indisvalid as valid,
         (select min(p.pid) from pg_stat_progress_create_index p
           where p.datname = current_database() and coalesce(p.index_relid, i.indexrelid) = i.indexrelid) as "builtBy"
    from pg_index i join pg_class c on c.oid = i.indexrelid
   where c.relnamespace = to_regnamespace(quote_ident($1::text))`

/**
 * The indexes that should exist, by name, with the statement that makes each: those of the AppView's script without
 * those that a migration drops, and our own.
 */
const STATEMENTS: ReadonlyMap<string, string> = new Map(
  [
    ...`${appviewTables}\n${OWN_STATEMENTS}`.matchAll(
      /^create ((?:unique )?)index (?:if not exists )?(\w+) on ([^;]+);/gm,
    ),
  ]
    .filter(([, , name]) => !UNREAD_INDEXES.includes(name!))
    .map(([, unique, name, on]) => [name!, `create ${unique}index ${name} on ${on!.replaceAll(/\s+/g, ' ')}`]),
)
