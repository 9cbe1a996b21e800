/** A transaction, or a session outside of one, as plugins see it. */
import type { Sql, Statement } from '@sluice/collections/define.ts'
import type { Session } from '@sluice/database/pool.ts'

export function sqlOf(session: Session): Sql {
  return {
    query: async <T extends object>(statement: Statement, values: unknown[]) =>
      (await session.query<T>(statement, values)).rows,
  }
}
