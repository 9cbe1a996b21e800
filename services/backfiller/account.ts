/** The account behind an entry: its identity, and the host to ask for its repository. */
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import type { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { Identity, Resolution } from '@sluice/atproto/identity.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { DEFAULT_BACKOFF, retry, type Retry } from '@sluice/runtime/backoff.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { NoDocumentError, refuse } from './failures.ts'

/**
 * How often the PLC directory is asked for one did:plc before the entry goes to the schedule. The waits between these
 * tries take about 16 s together, at most 32 s. Meanwhile the entry holds one of the dispatcher's 64 places for
 * identities. So in an outage of the directory, four entries a second go to the schedule.
 */
const RESOLVE_TRIES = 8

/**
 * Resolves the DID of an account.
 *
 * A did:plc: while the directory does not answer, it is asked again in place (`RESOLVE_TRIES`), and the entry keeps its
 * place for identities. After the last try the error is thrown, and another entry gets the place: the directory may
 * fail for this one DID only. The class of the error is `unavailable`, which never gives an entry up. So an outage of
 * the directory only moves some entries to the schedule.
 *
 * A did:web: its host is its own directory, and is asked once.
 *
 * @param urgent for an entry that an operator asked for: the lookup of a did:web does not wait for lookups of the same
 * owner that are not urgent
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
    // Otherwise the host is not at fault: it was not asked since too many lookups wait, or Redis is away.
    if (!hasFailed || !(error instanceof TransientError)) throw error
    throw new NoDocumentError(error.message, { cause: error, retryAfterMs: error.retryAfterMs })
  }
}

/**
 * The identity in a resolution.
 * @throws RefusedError<RepoRefusal> when the DID does not exist, was ended, or has an invalid document
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
 * The origin to fetch the repository from: the account's PDS. With `fetchFrom: 'listed'`, the host that the entry
 * names, if it names one.
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

/** The origin of a host that an entry names. Entries usually name hosts without a scheme. */
function originOf(host: string, plainHttp: boolean): string {
  const url = /^https?:\/\//.test(host) ? host : `${plainHttp ? 'http' : 'https'}://${host}`
  if (!URL.canParse(url)) throw refuse('identity-no-pds', `"${host}" is no host`)
  return new URL(url).origin
}
