/** How much is looked at for what hangs on one version, when there may be any number: a stranger's post may have a million replies. */
import type { Affected, Sql, Statement } from '../define.ts'

export interface Found {
  uri: string
}

/** Of what was looked at for one record. */
export interface Look extends Found {
  /** From when on what hangs on it was written. */
  time: string
  /** Those that do. */
  uris: string[] | null
  looked: number
}

/** Those of which more was looked at than there is room for are left to others. */
export function lookedAt(looks: readonly Look[], most: number | null): Affected {
  const affected: Affected = { uris: [], beyond: [] }
  for (const { uri, time, uris, looked } of looks) {
    if (most !== null && looked > most) affected.beyond.push({ uri, since: time })
    else for (const affectedUri of uris ?? []) affected.uris.push(affectedUri)
  }
  return affected
}

/** Asks for at most so many of each: the last value of these statements. */
export async function look(sql: Sql, statement: Statement, values: unknown[], most: number | null): Promise<Affected> {
  return lookedAt(await sql.query<Look>(statement, [...values, most]), most)
}
