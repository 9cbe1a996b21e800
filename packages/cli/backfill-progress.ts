/** How far the backfill is, from the metrics of those backfillers that answer. Pure. */
import { valuesOf, type DaemonState } from './daemon-state.ts'

export interface BackfillProgress {
  /** Repositories that these processes have done, without those that were given up. */
  done: number
  givenUp: number
  /**
   * Seconds until the queue is empty, for all processes together at their pace of the last minutes; absent when there
   * is nothing to do, or no pace yet.
   */
  etaSeconds?: number
}

/** Outcomes after which the repository is fetched again, so that it is not done. */
const RETURNING = ['retry', 'moved', 'put-off']
const GIVEN_UP = ['dead', 'set-aside']

/** Undefined when no backfiller answers. */
export function backfillProgress(daemons: readonly DaemonState[]): BackfillProgress | undefined {
  const repos = valuesOf(daemons, 'sluice_backfill_repos_total')
  if (repos.length === 0) return undefined
  const sum = (of: (outcome: string) => boolean): number =>
    repos.filter(({ labels }) => of(labels.outcome ?? '')).reduce((all, { value }) => all + value, 0)
  // Each process tells how long it would need for the whole queue alone.
  const pace = valuesOf(daemons, 'sluice_backfill_eta_seconds')
    .filter(({ value }) => value > 0)
    .reduce((all, { value }) => all + 1 / value, 0)
  return {
    done: sum((outcome) => !GIVEN_UP.includes(outcome) && !RETURNING.includes(outcome)),
    givenUp: sum((outcome) => GIVEN_UP.includes(outcome)),
    ...(pace > 0 && { etaSeconds: 1 / pace }),
  }
}
