/** Accounts of which there is nothing but one host's word: it can make up any number. */
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { forgetListed, readChains } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { StateConflictError, type Producer } from '@sluice/streams/producer.ts'
import type { FailureClass, Verdict } from './failures.ts'

/**
 * Whether there is but one host's listing to say that the account exists: its PDS as that host claims (`isPds` in the ingester's listing.ts), which can
 * make up any number. A relay lists revs; one of its that is none that a commit may have counts as hearsay, too.
 */
export function isHearsay({ reason, rev }: BackfillEvent): boolean {
  return reason === 'listed' && rev === ''
}

/** Below its own domain a host makes up any number of these at no cost. */
export function mayBeMadeUp(entry: BackfillEvent): boolean {
  return isHearsay(entry) && entry.did.startsWith('did:web:')
}

/** Of all classes together: one that fails otherwise each time has no row of failures, and would be tried every minute for ever. More than two rows of any two classes. */
const FAILURES_MAX = 40

/**
 * Of failures that never give anybody up: until the document of a did:web counts as none, longer than most outages (an hour and more with the default waits); and until what may
 * well be there, and does not come, is left to the next listing (two days or so).
 */
const TRIES: Partial<Record<FailureClass, number>> = { 'no-document': 8, unavailable: 16 }

/**
 * Whether an entry that has failed is passed over, where any other is tried again, or becomes a dead letter: of a did:web of which there is only hearsay. Below its own domain a
 * host makes up any number at no cost, with documents and hosts that answer as it likes. What fails for ever would fill Redis, and the dead letters would fill the room for all,
 * which stops the queue. What is there after all is asked for when it is listed again. An error of ours is told.
 */
export function isPassedOver(entry: BackfillEvent, failed: FailureClass, verdict: Verdict): boolean {
  if (!mayBeMadeUp(entry) || failed === 'bug') return false
  if (verdict.act === 'bury') return true
  const { attempts = 0, failures = 0 } = verdict.entry
  return attempts >= (TRIES[failed] ?? Infinity) || failures >= FAILURES_MAX
}

/**
 * Forgets one that does not exist: whoever lists millions of them, and others each time, would fill Redis with their chain records. It is asked for again when it is listed
 * again.
 * @returns false when more is known of it, or it was listed again meanwhile: then nothing has happened
 * @throws FatalError; an AbortError
 */
export async function forgetMadeUp(
  { redis, producer }: { redis: Redis; producer: Pick<Producer<never>, 'append'> },
  did: string,
  signal: AbortSignal,
): Promise<boolean> {
  const [stored] = await readChains(redis, [did])
  if (stored === undefined) return true
  const step = forgetListed(did, stored)
  if (step === undefined) return false
  try {
    await producer.append([], signal, { also: [step] })
    return true
  } catch (error) {
    if (!(error instanceof StateConflictError)) throw error
    return false
  }
}
