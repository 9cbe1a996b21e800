/**
 * All allowed differences between our index and that of the official AppView's indexer, each with its reason.
 * `docs/differences.md` is written from this list.
 */
import type { Allowance, Both } from './allowance.ts'
import { accountAllowances } from './allowed-accounts.ts'
import { duplicateAllowances } from './allowed-duplicates.ts'
import { notificationAllowances } from './allowed-notifications.ts'
import { rowAllowances } from './allowed-rows.ts'
import type { Difference } from './compare.ts'

export const allowances: readonly Allowance[] = [
  ...rowAllowances,
  ...duplicateAllowances,
  ...notificationAllowances,
  ...accountAllowances,
]

export interface Explanation {
  unexplained: Difference[]
  /** How many differences each allowance explained. */
  used: Map<string, number>
}

/** Explains each difference by the first allowance that can. */
export function explain(differences: readonly Difference[], both: Both): Explanation {
  const unexplained: Difference[] = []
  const used = new Map<string, number>()
  for (const difference of differences) {
    const found = allowances.find(
      (allowance) => allowance.tables.includes(difference.table) && allowance.explains(difference, both),
    )
    if (found) used.set(found.id, (used.get(found.id) ?? 0) + 1)
    else unexplained.push(difference)
  }
  return { unexplained, used }
}
