/** Which versions of PostgreSQL, and which encodings of a database, Sluice works with. */
import type { QueryResult, QueryResultRow } from 'pg'
import { FatalError } from '@sluice/runtime/errors.ts'

/** The oldest version on which the tests were run (docs/testing.md). */
const LEAST_MAJOR = 14

interface Queries {
  query<T extends QueryResultRow>(text: string): Promise<QueryResult<T>>
}

/**
 * Checks the version of the server. It is called before anything is written that a newer server would have to correct.
 * @throws FatalError when the server is too old
 */
export async function assertServerVersion(db: Queries): Promise<void> {
  const { rows } = await db.query<{ version: string; number: number }>(
    `select current_setting('server_version') as version, current_setting('server_version_num')::int as number`,
  )
  const refusal = refusalOf(rows[0]!)
  if (refusal !== undefined) throw new FatalError(refusal)
}

/**
 * @param server `number` is `server_version_num`: 140023 is 14.23
 * @returns why the version is not accepted, and what to do; undefined when it is accepted
 */
export function refusalOf({ version, number }: { version: string; number: number }): string | undefined {
  if (number >= LEAST_MAJOR * 10_000) return undefined
  return `PostgreSQL ${version} is too old: Sluice needs ${LEAST_MAJOR} or newer. Next: upgrade it (pg_upgrade), or name another in DB_POSTGRES_URL`
}

/**
 * Checks the encoding of the database. In any but these two every record with a character that it lacks would become a
 * dead letter. SQL_ASCII stores the bytes of UTF-8 as they are.
 * @throws FatalError when the database cannot hold every text
 */
export async function assertEncoding(db: Queries): Promise<void> {
  const { rows } = await db.query<{ database: string; encoding: string }>(
    `select current_database() as database, current_setting('server_encoding') as encoding`,
  )
  const { database, encoding } = rows[0]!
  if (['UTF8', 'SQL_ASCII'].includes(encoding)) return
  throw new FatalError(
    `database "${database}" has the encoding ${encoding}, which cannot hold the text of the network. ` +
      'A database keeps its encoding for life. Next: make another with createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8, and name it in DB_POSTGRES_URL',
  )
}
