/** The AppView's schema as one script, in the state of `APPVIEW_RELEASE`. */
import { accountTables } from './accounts.ts'
import { feedTables } from './feed.ts'
import { graphTables } from './graph.ts'
import { moderationTables } from './moderation.ts'
import { privateTables } from './private.ts'

/** Makes every object in the first schema of `search_path`; `pg_trgm` must be there. */
export const appviewTables = [accountTables, feedTables, graphTables, privateTables, moderationTables].join('\n')

/** The names of those tables. */
export const APPVIEW_TABLES: readonly string[] = [...appviewTables.matchAll(/^create table "?(\w+)"? \($/gm)].map(
  ([, name]) => name!,
)
