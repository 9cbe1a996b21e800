/** Which entries are passed over when they fail: neither tried again without end, nor kept as dead letters. */
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import type { Consequence, FailureClass } from './failures.ts'
import { mayBeMadeUp } from './unconfirmed.ts'

/**
 * The most failures of all classes together. An entry that fails in another class each time would otherwise be tried a
 * hundred times. 40 is more than the tries of any two classes together.
 */
const FAILURES_MAX = 40

/**
 * Tries for the classes of failures that never give another entry up. After so many of `no-document`, the document of a
 * did:web counts as missing: longer than most outages (an hour and more with the default waits). After so many of
 * `unavailable`, the repository may well exist but does not come, and is left to the next listing (two days or so).
 */
const TRIES: Partial<Record<FailureClass, number>> = { 'no-document': 8, unavailable: 16 }

/**
 * Whether an entry that has failed is passed over, where any other entry is tried again or becomes a dead letter. Such
 * are entries of unconfirmed did:webs: the owner of a domain can make up any number of them at no cost, with documents
 * and hosts that answer as the owner likes. Entries that fail for ever would fill Redis, and their dead letters would
 * fill the room for all, which stops the queue. An account that does exist is asked for when it is listed again. A
 * `bug` is an error of ours, and must be seen: its entry is not passed over.
 */
export function isPassedOver(entry: BackfillEvent, failed: FailureClass, consequence: Consequence): boolean {
  if (!mayBeMadeUp(entry) || failed === 'bug') return false
  if (consequence.act === 'bury') return true
  const { attempts = 0, failures = 0 } = consequence.entry
  return attempts >= (TRIES[failed] ?? Infinity) || failures >= FAILURES_MAX
}
