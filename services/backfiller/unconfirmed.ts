/** Accounts that only the listing of one host speaks for. A host can make up any number of them. */
import { randomBytes } from 'node:crypto'
import { webHostOf } from '@sluice/atproto/did-web.ts'
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { madeUpKey } from '@sluice/streams/backfill-queue.ts'
import { forgetListed, readChains } from '@sluice/streams/chain-state.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { StateConflictError, type Producer } from '@sluice/streams/producer.ts'
import { loadScript, runScript } from '@sluice/streams/scripts.ts'

const countMadeUp = loadScript(new URL('lua/made-up.lua', import.meta.url))

/**
 * Whether nothing but one host's listing says that the account exists. That host claims to be the account's PDS
 * (`isPds` in the ingester's listing.ts), and can make up any number of accounts. Such an entry has no rev. A relay
 * lists revs; when a relay's rev is none that a commit may have, the entry has no rev either, and counts as unconfirmed
 * too.
 */
export function isUnconfirmed({ reason, rev }: BackfillEvent): boolean {
  return reason === 'listed' && rev === ''
}

/**
 * Whether a host may have made up the account at no cost: an unconfirmed did:web. The owner of a domain can have any
 * number of did:webs below it.
 */
export function mayBeMadeUp(entry: BackfillEvent): boolean {
  return isUnconfirmed(entry) && entry.did.startsWith('did:web:')
}

/**
 * Deletes the chain record of an account that does not exist. A host that lists millions of such accounts, and others
 * each time, would otherwise fill Redis with chain records. The account is asked for again when it is listed again.
 * @returns false when more is known of the account, or it was listed again meanwhile. Then nothing has changed
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

/**
 * Of one part of all owners, so many did:webs that may be made up leave a chain record for their status. There are
 * 4,096 parts (`lua/made-up.lua`), so that the memory for the counts is bounded too: any number of domains can be
 * registered.
 */
const STATUSES_MAX = 1_000

/**
 * Notes that the status of an account is to be kept, if the account may be made up. A status costs its host nothing,
 * and leaves 60 bytes in Redis and a row in the index for ever. So one owner has a bounded number of them. The status
 * of a further account is not kept, and the account is passed over: it has no repository, and is asked for again when
 * it is listed again.
 * @returns false for an account whose status is not to be kept. An account of which more is known is never such a one
 * @throws TransientError
 */
export async function mayKeepStatus(
  { redis, queue }: { redis: Redis; queue: string },
  entry: BackfillEvent,
): Promise<boolean> {
  if (!mayBeMadeUp(entry)) return true
  const [stored] = await readChains(redis, [entry.did])
  if (stored !== undefined && forgetListed(entry.did, stored) === undefined) return true
  const args = [ownerOf(webHostOf(entry.did)!), randomBytes(16).toString('hex')]
  return Number(await classified(runScript(redis, countMadeUp, [madeUpKey(queue)], args))) <= STATUSES_MAX
}
