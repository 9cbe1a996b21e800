/** Accounts of which there is nothing but one host's word: it can make up any number. */
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { forgetListed, readChains } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { StateConflictError, type Producer } from '@sluice/streams/producer.ts'

/**
 * Whether there is but one host's listing to say that the account exists: its PDS as that host claims (`isPds` in the ingester's listing.ts), which can
 * make up any number. A relay lists revs; one of its that is none that a commit may have counts as hearsay, too.
 */
export function isHearsay({ reason, rev }: BackfillEvent): boolean {
  return reason === 'listed' && rev === ''
}

/** Longer than most outages: about two hours with the default waits. */
const TRIES = 8

/**
 * Whether a did:web of which there is only hearsay has failed so often that it counts as one that does not exist. Its document is at a host of whoever has made it up, who
 * may never answer, and what fails is kept for ever.
 */
export function isWornOut(entry: BackfillEvent): boolean {
  const { did, failure, attempts = 0 } = entry
  return isHearsay(entry) && did.startsWith('did:web:') && failure === 'unavailable' && attempts >= TRIES - 1
}

/**
 * Forgets one that does not exist: whoever lists millions of them, and others each time, would fill Redis with their chain records. It is asked for again when it is listed
 * again.
 * @throws FatalError; an AbortError
 */
export async function forgetMadeUp(
  { redis, producer }: { redis: Redis; producer: Pick<Producer<never>, 'append'> },
  did: string,
  signal: AbortSignal,
): Promise<void> {
  const [stored] = await readChains(redis, [did])
  const step = stored && forgetListed(did, stored)
  if (step === undefined) return
  try {
    await producer.append([], signal, { also: [step] })
  } catch (error) {
    // It has been heard of, or was listed again.
    if (!(error instanceof StateConflictError)) throw error
  }
}
