/** The account behind an entry: its identity, and the host to ask for its repository. */
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import type { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { Identity, Resolution } from '@sluice/atproto/identity.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { DEFAULT_BACKOFF, retry, type Retry } from '@sluice/runtime/backoff.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { NoDocumentError, refuse } from './failures.ts'

/** Of a did:plc in place: 16 s in all, at most 32. In an outage, all places together move four repositories a second to the schedule. */
const RESOLVE_TRIES = 8

/**
 * What a DID leads to. A directory that is down stops what needs it, for a while: then this may be the one DID that it fails for, and the place is for
 * another. What it throws is `unavailable`, which gives nobody up, so that an outage only moves some repositories to the schedule. The host of a did:web is its own directory.
 * @param urgent what an operator asked for waits for no other did:web of its owner
 * @throws TransientError, for a did:web NoDocumentError or CrowdedError; an AbortError
 */
export async function resolvePatiently(
  identities: Pick<IdentityResolver, 'resolve'>,
  { did, urgent }: { did: string; urgent: boolean },
  signal: AbortSignal,
  onWait: (retry: Retry) => void,
): Promise<Resolution> {
  if (!did.startsWith('did:plc:')) return resolveAtItsHost(identities, did, urgent)
  let tries = 0
  const resolve = () =>
    identities.resolve(did).catch((error: unknown) => (++tries < RESOLVE_TRIES ? Promise.reject(error) : { error }))
  const resolution = await retry(signal, DEFAULT_BACKOFF, resolve, onWait)
  if ('error' in resolution) throw resolution.error
  return resolution
}

async function resolveAtItsHost(
  identities: Pick<IdentityResolver, 'resolve'>,
  did: string,
  urgent: boolean,
): Promise<Resolution> {
  let hasFailed = false
  const watch: AskingWatch = { asked: () => {}, answered: (isAnswer) => void (hasFailed = isAnswer === false) }
  try {
    return await identities.resolve(did, watch, { urgent })
  } catch (error) {
    // Else nobody was asked: too many wait, or Redis is away.
    if (!hasFailed || !(error instanceof TransientError)) throw error
    throw new NoDocumentError(error.message, { cause: error, retryAfterMs: error.retryAfterMs })
  }
}

/**
 * The identity, when there is one.
 * @throws RefusedError<RepoRefusal>
 */
export function identityOf(did: string, resolution: Resolution): Identity {
  switch (resolution.status) {
    case 'found':
      return resolution.identity
    case 'missing':
    case 'tombstoned':
      throw refuse('identity-missing', `${did} does not exist`)
    case 'invalid':
      throw refuse('identity-invalid', `${did}: ${resolution.detail}`)
    default:
      return resolution satisfies never
  }
}

/**
 * The origin to ask: the account's PDS, or with `listed` the host that the entry names.
 * @throws RefusedError<RepoRefusal>
 */
export function repoOrigin(
  { host }: BackfillEvent,
  { did, pds }: Identity,
  { fetchFrom, plainHttp }: { fetchFrom: 'pds' | 'listed'; plainHttp: boolean },
): string {
  if (fetchFrom === 'listed' && host !== '') return originOf(host, plainHttp)
  if (pds === undefined) throw refuse('identity-no-pds', `${did} names no PDS`)
  return pds
}

/** Hosts are listed without a scheme. */
function originOf(host: string, plainHttp: boolean): string {
  const url = /^https?:\/\//.test(host) ? host : `${plainHttp ? 'http' : 'https'}://${host}`
  if (!URL.canParse(url)) throw refuse('identity-no-pds', `"${host}" is no host`)
  return new URL(url).origin
}
