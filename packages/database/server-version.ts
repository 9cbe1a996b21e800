/** Which versions of PostgreSQL Sluice works with. */
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
