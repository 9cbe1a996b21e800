/** What can be wrong with the settling that batches put off, and that is done beside the data path. */
import { duration } from '../output.ts'
import type { Rule } from './finding.ts'

/**
 * Settling that was put off again may wait this many times longer. It includes the rest of work that was too much for
 * once, and replies below a post that is edited all the time.
 */
const AGAIN_TIMES = 4

export const settlingBehind: Rule = ({ postgres }, { settlingSeconds }) => {
  const { first = 0, again = 0 } = postgres?.state?.overdue?.later ?? {}
  const isFirst = first > settlingSeconds
  if (!isFirst && !(again > AGAIN_TIMES * settlingSeconds)) return []
  const waited = isFirst ? first : again
  return [
    {
      id: 'settling-behind',
      severity: 'warning',
      what: `what hangs on records with many replies has not been settled for ${duration(waited)}`,
      evidence: `the first row of settle_later (${isFirst ? 'no' : 'some'} tries) has been due for so long`,
      meaning: 'Replies below some posts are shown, or hidden, as a gate or a post of before would have it.',
      mend: 'start an indexer if none runs; if one does: its log says when its part settling fails; else start another one (INDEXER_CONSUMER of its own), which settles as many more at a time',
    },
  ]
}
