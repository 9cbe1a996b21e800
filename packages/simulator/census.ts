/** How much of each kind there is in a world: a comparison is worth no more than that. */
import { TrueCounts } from './true-counts.ts'
import { trueRows } from './true-rows.ts'
import { Verdicts } from './true-verdicts.ts'
import type { Truth } from './truth.ts'

/**
 * Rows by table (`like`), verdicts by column and value (`post.violatesThreadGate true`, or `open`), replies by the
 * rules that let them in (`let in by followerRule`), notifications by reason (`notification reply`,
 * `notification reply open`).
 */
export function censusOf(truth: Truth): Map<string, number> {
  const census = new Map<string, number>()
  const add = (name: string, n = 1): void => void census.set(name, (census.get(name) ?? 0) + n)
  for (const [table, rows] of trueRows(truth, () => truth.startedAt)) add(table, rows.length)
  const counts = new TrueCounts(truth)
  const judge = new Verdicts(truth)
  for (const [uri, verdicts] of counts.verdicts) {
    for (const rule of judge.admissions(truth.records.get(uri)!)) add(`let in by ${rule}`)
    const { reply, embed } = truth.records.get(uri)!.record
    for (const [column, verdict] of Object.entries(verdicts)) {
      const isJudged = column === 'violatesEmbeddingRules' ? embed !== undefined : reply !== undefined
      if (isJudged) add(`post.${column} ${verdict ?? 'open'}`)
    }
  }
  const { certain, open } = counts.notices()
  for (const { reason } of certain) add(`notification ${reason}`)
  for (const { reason } of open) add(`notification ${reason} open`)
  return census
}
