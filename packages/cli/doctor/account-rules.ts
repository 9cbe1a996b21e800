/** What can be wrong with the questions to the hosts of accounts, which are asked beside the data path. */
import { duration } from '../output.ts'
import type { OverdueState } from '../overdue-state.ts'
import type { Finding, Rule } from './finding.ts'

/**
 * Queues in which nothing may wait long. Queues of accounts whose host is slow or does not answer are left out: the
 * operator cannot speed those up.
 */
const QUEUES: readonly {
  seconds: (overdue: OverdueState) => number
  what: string
  row: string
  meaning: string
}[] = [
  {
    seconds: ({ checks }) => checks.new,
    what: 'accounts of which different things were said have not been asked about',
    row: 'account_check (state new)',
    meaning:
      'Whether they are shown is decided by the times of what was said, and clocks differ: some are hidden, or shown, wrongly.',
  },
  {
    seconds: ({ deletions }) => deletions.new,
    what: 'deletions that were reported have not been confirmed',
    row: 'account_deletion (state reported or purging, no tries)',
    meaning: 'The accounts are hidden, and what they have written is still there and counted.',
  },
  {
    seconds: ({ deletions }) => deletions.returned,
    what: 'the repositories of accounts that are back have not been asked for',
    row: 'account_deletion (state returned)',
    meaning: 'They are shown without what they have written.',
  },
]

export const accountsBehind: Rule = ({ postgres }, { accountSeconds }) => {
  const overdue = postgres?.state?.overdue
  if (overdue === undefined) return []
  return QUEUES.flatMap(({ seconds, what, row, meaning }): Finding[] => {
    const waited = seconds(overdue)
    if (!(waited > accountSeconds)) return []
    return [
      {
        id: 'accounts-behind',
        severity: 'warning',
        what: `${what} for ${duration(waited)}`,
        evidence: `the first row of ${row} has been due for so long`,
        meaning,
        mend: 'start an indexer if none runs; if one does: its log says when its part account-checks or deletions fails; else start another one (INDEXER_CONSUMER of its own), which asks about as many more at a time',
      },
    ]
  })
}
