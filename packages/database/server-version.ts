/** Which PostgreSQL we work with. */
import type { QueryResult, QueryResultRow } from 'pg'
import { FatalError } from '@sluice/runtime/errors.ts'

/** The oldest that the tests were run on (docs/testing.md). */
const LEAST_MAJOR = 14

interface Queries {
  query<T extends QueryResultRow>(text: string): Promise<QueryResult<T>>
}

/** @throws FatalError on a server that is too old: before anything is written that a later one would have to mend */
export async function assertServerVersion(db: Queries): Promise<void> {
  const { rows } = await db.query<{ version: string; number: number }>(
    `select current_setting('server_version') as version, current_setting('server_version_num')::int as number`,
  )
  const refusal = refusalOf(rows[0]!)
  if (refusal !== undefined) throw new FatalError(refusal)
}

/** @param server `number` as `server_version_num` has it: 140023 is 14.23. @returns why it will not do, and what to do; undefined when it will */
export function refusalOf({ version, number }: { version: string; number: number }): string | undefined {
  if (number >= LEAST_MAJOR * 10_000) return undefined
  return `PostgreSQL ${version} is too old: Sluice needs ${LEAST_MAJOR} or newer. Next: upgrade it (pg_upgrade), or name another in DB_POSTGRES_URL`
}
