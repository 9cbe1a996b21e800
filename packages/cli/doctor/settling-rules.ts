/** What can be wrong with what batches put off, which is settled beside the data path. */
import { duration } from '../output.ts'
import type { Rule } from './finding.ts'

/** Not of those that were put off again: whoever edits a post all the time waits for themselves. */
export const settlingBehind: Rule = ({ postgres }, { settlingSeconds }) => {
  const waited = postgres?.state?.overdue?.later.first ?? 0
  if (!(waited > settlingSeconds)) return []
  return [
    {
      id: 'settling-behind',
      severity: 'warning',
      what: `what hangs on records with many replies has not been settled for ${duration(waited)}`,
      evidence: 'the first row of settle_later (no tries) has been due for so long',
      meaning: 'Replies below some posts are shown, or hidden, as a gate or a post of before would have it.',
      mend: 'start an indexer if none runs; if one does: its log says when its part settling fails; else start another one (INDEXER_CONSUMER of its own), which settles as many more at a time',
    },
  ]
}
