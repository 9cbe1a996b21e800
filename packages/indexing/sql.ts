/** A transaction as plugins see it. */
import type { Sql } from '@sluice/collections/define.ts'
import type { Transaction } from '@sluice/database/transaction.ts'

export function sqlOf(tx: Transaction): Sql {
  return {
    query: async <T extends object>(statement: { name: string; text: string }, values: unknown[]) =>
      (await tx.query<T>(statement, values)).rows,
  }
}
