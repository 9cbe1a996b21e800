/** Gives plugins a way to run statements: in a transaction, or in a session outside of one. */
import type { Sql, Statement } from '@sluice/collections/depends.ts'
import type { Session } from '@sluice/database/pool.ts'

export function sqlOf(session: Session): Sql {
  return {
    query: async <T extends object>(statement: Statement, values: unknown[]) =>
      (await session.query<T>(statement, values)).rows,
  }
}
