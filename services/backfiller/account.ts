/** The account behind an entry: its identity, and which host to ask for its repository. */
import type { Identity, Resolution } from '@sluice/atproto/identity.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import type { RepoRefusal } from './failures.ts'

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

function refuse(reason: RepoRefusal, detail: string): RefusedError<RepoRefusal> {
  return new RefusedError(reason, detail)
}
