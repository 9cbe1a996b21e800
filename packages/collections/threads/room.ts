/**
 * Bounds how many records are looked at for one version. Any number of records may hang on one: a stranger's post may
 * have a million replies.
 */
import type { Affected, Sql, Statement } from '../depends.ts'

export interface Found {
  uri: string
}

/** The result of looking at the records that may hang on one record (`uri`). */
export interface Look extends Found {
  /** Records that hang on it were written at this time (TID) or later. */
  time: string
  /** The records that do hang on it. */
  uris: string[] | null
  /** How many records were looked at. */
  looked: number
}

/**
 * Collects the results. A record for which more was looked at than `most` goes to `beyond`, and none of its finds are
 * used.
 */
export function lookedAt(looks: readonly Look[], most: number | null): Affected {
  const affected: Affected = { uris: [], beyond: [] }
  for (const { uri, time, uris, looked } of looks) {
    if (most !== null && looked > most) affected.beyond.push({ uri, since: time })
    else for (const affectedUri of uris ?? []) affected.uris.push(affectedUri)
  }
  return affected
}

/** Runs a statement whose last parameter is the most records to look at for each record. */
export async function look(sql: Sql, statement: Statement, values: unknown[], most: number | null): Promise<Affected> {
  return lookedAt(await sql.query<Look>(statement, [...values, most]), most)
}
