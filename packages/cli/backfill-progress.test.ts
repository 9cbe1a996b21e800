import { expect, test } from 'vitest'
import { backfillProgress } from './backfill-progress.ts'
import { readMetrics } from './daemon-state.ts'

const daemon = (text: string) => ({ url: 'http://x', ready: true, metrics: readMetrics(text) })
const REPOS = 'sluice_backfill_repos_total'

test('what the backfillers are done with is added up, and at their paces together the queue takes less than alone', () => {
  const one = `${REPOS}{outcome="exported"} 5\n${REPOS}{outcome="retry"} 7\n${REPOS}{outcome="dead"} 1\nsluice_backfill_eta_seconds 300`
  const two = `${REPOS}{outcome="resynced"} 2\n${REPOS}{outcome="put-off"} 3\nsluice_backfill_eta_seconds 600`
  expect(backfillProgress([daemon(one), daemon(two)])).toEqual({ done: 7, givenUp: 1, etaSeconds: 200 })
})

test('nothing is said without a backfiller, and no end without a pace', () => {
  expect(backfillProgress([{ url: 'http://x', silent: 'away' }])).toBeUndefined()
  expect(backfillProgress([daemon(`${REPOS}{outcome="exported"} 0\nsluice_backfill_eta_seconds 0`)])).toEqual({
    done: 0,
    givenUp: 0,
  })
})
