/**
 * When an account's handle is checked next. A verified handle is checked again when it is old; any other after a wait
 * that doubles; a new account that was turned away, soon. Pure functions.
 */
import type { HandleCheck, HandleClaim } from '@sluice/indexing/handle-checks.ts'
import { turnedAwayMs } from './ask-again.ts'

export interface HandleSchedule {
  /** How long a verified handle counts as valid without another check. */
  refreshMs: number
  /** The first wait after a check that could not be made. */
  retryMs: number
  /** The first wait for an account that has no handle, or whose handle leads to another account. */
  noneMs: number
  /** The longest wait. */
  capMs: number
}

export type HandleFinding =
  | { outcome: 'verified'; handle: string }
  /** The account has no handle that leads back to it. */
  | { outcome: 'none' }
  /** The directory, a name server or a host did not answer, or asked to be asked later. */
  | { outcome: 'unknown'; retryAfterMs: number }
  /** Nobody was asked: too many others wait already, or the owner of the handle's host is slow. */
  | { outcome: 'turned-away'; retryAfterMs: number }

/** @param random draws from 0 to 1 */
export function nextCheck(
  { queue, tries }: HandleClaim,
  finding: HandleFinding,
  schedule: HandleSchedule,
  nowMs: number,
  random: () => number,
): HandleCheck['next'] {
  const due = (ms: number): string => new Date(nowMs + ms).toISOString()
  if (finding.outcome === 'verified') {
    // Spread at random, so that accounts that were verified together (those of one import, say) are not due together
    // for ever.
    return { queue: 'again', dueAt: due(schedule.refreshMs * (0.9 + 0.2 * random())), tries: 0 }
  }
  if (finding.outcome === 'turned-away') {
    // The identity of a new account is in the cache, so it may come back soon. For any other account the directory is
    // asked anew, which costs it a question each time: its backoff applies.
    const firstMs = { new: 0, again: schedule.noneMs, failing: schedule.retryMs }[queue]
    const leastMs = backoffMs(firstMs, tries, schedule, random)
    return { queue, dueAt: due(Math.max(leastMs, turnedAwayMs(random, finding.retryAfterMs))), tries }
  }
  const firstMs = finding.outcome === 'none' ? schedule.noneMs : schedule.retryMs
  const waitMs = backoffMs(firstMs, tries, schedule, random)
  const askedMs = finding.outcome === 'unknown' ? finding.retryAfterMs : 0
  return { queue: 'failing', dueAt: due(Math.max(waitMs, askedMs)), tries: tries + 1 }
}

function backoffMs(firstMs: number, tries: number, { capMs }: HandleSchedule, random: () => number): number {
  return Math.min(capMs, firstMs * 2 ** Math.min(tries, 30)) * (0.5 + 0.5 * random())
}
