/**
 * Asks an account's own host for its status: whether the account is really gone, and whether it is active. The host
 * that is asked is the one that the account's identity names now. What was reported before may come from a host that
 * the account has left, or from an event of long ago.
 */
import { webHostOf } from '@sluice/atproto/did-web.ts'
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import type { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { Resolution } from '@sluice/atproto/identity.ts'
import { XrpcRefusedError, type XrpcClient } from '@sluice/atproto/xrpc.ts'
import { DELETED } from '@sluice/indexing/accounts.ts'
import { orAbort } from '@sluice/runtime/abort.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { HostPace } from './host-pace.ts'

export type HostingStatus =
  | { kind: 'gone' }
  /**
   * Its identity names no host. If a deletion was reported, the account is gone; if not, its directory entry is broken.
   */
  | { kind: 'no-host' }
  /** Its host has the account, with this status. `host` has no scheme. */
  | { kind: 'hosted'; host: string; active: boolean; status?: string }
  /** Its host has the account and does not tell its status. */
  | { kind: 'status-unknown'; host: string }

export interface StatusSources {
  identities: Pick<IdentityResolver, 'resolve' | 'refresh'>
  xrpc: Pick<XrpcClient, 'getRepoStatus' | 'getLatestCommit'>
}

/** How a host is asked. */
export interface Asking {
  pace: HostPace
  /** Others wait for this worker: a host that was slow of late is not asked by it. */
  inHaste: boolean
  signal: AbortSignal
}

/** A host that takes longer than this counts as one that does not answer. It is asked again later. */
const ANSWER_MS = 10_000
const LIMITS = { headersMs: ANSWER_MS, idleMs: ANSWER_MS, totalMs: ANSWER_MS }

/**
 * Asks the host that the account's identity names now.
 * @throws SlowHostError when in haste, else BusyOwnerError; TransientError when the status could not be found out (then
 * nothing may be deleted or changed); the signal's reason
 */
export async function askHostingStatus(
  { identities, xrpc }: StatusSources,
  did: string,
  { pace, inHaste, signal }: Asking,
): Promise<HostingStatus> {
  // A directory may have asked for minutes of quiet. A stop must not wait for them.
  const resolve = async (watch?: AskingWatch) => (await orAbort(signal, identities.refresh(did, watch))).resolution
  const web = webHostOf(did)
  // Many accounts of one owner may be claimed again each second until it is their turn. The cached identity names the
  // host well enough to see that the owner is busy, and costs the directory no question.
  if (!inHaste && web === undefined) pace.assertFree(hostIn(await orAbort(signal, identities.resolve(did))))
  // Waiting until other did:webs had their turn is not the fault of this host. So it is timed only from the moment at
  // which it is asked.
  const resolution = await (web === undefined ? resolve() : pace.askInTurn(web, inHaste, resolve))
  if (resolution.status === 'tombstoned') return { kind: 'gone' }
  if (resolution.status !== 'found') {
    // The PLC directory never forgets an account. One that says so is a mirror that lags behind, or the wrong
    // directory. The host of a did:web may well have dropped its document.
    if (resolution.status === 'missing' && web !== undefined) return { kind: 'no-host' }
    throw new TransientError(`${did} does not resolve (${resolution.status}): its host cannot be asked`)
  }
  const { pds } = resolution.identity
  if (pds === undefined) return { kind: 'no-host' }
  const { host } = new URL(pds)
  return await pace.ask(host, inHaste, () => saidAt({ xrpc, pds, host, did, signal }))
}

/** The host that has the repository, without a scheme. */
function hostIn(resolution: Resolution): string | undefined {
  const pds = resolution.status === 'found' ? resolution.identity.pds : undefined
  return pds === undefined ? undefined : new URL(pds).host
}

interface Question extends Pick<StatusSources, 'xrpc'> {
  pds: string
  host: string
  did: string
  signal: AbortSignal
}

async function saidAt(question: Question): Promise<HostingStatus> {
  const { xrpc, pds, host, did, signal } = question
  try {
    const { active, status } = await xrpc.getRepoStatus(pds, did, { signal, limits: LIMITS })
    if (!active && status === DELETED) return { kind: 'gone' }
    return { kind: 'hosted', host, active, ...(status !== undefined && { status }) }
  } catch (error) {
    if (!(error instanceof XrpcRefusedError)) throw asTransient(did, error)
    return await refusedAs(error, question)
  }
}

async function refusedAs(error: XrpcRefusedError, { xrpc, pds, host, did, signal }: Question): Promise<HostingStatus> {
  if (error.reason !== 'not-implemented') return saidBy(error, host, did)
  // An old host: ask it with an older method.
  try {
    await xrpc.getLatestCommit(pds, did, { signal, limits: LIMITS })
    return { kind: 'status-unknown', host }
  } catch (older) {
    if (!(older instanceof XrpcRefusedError)) throw asTransient(did, older)
    return saidBy(older, host, did)
  }
}

/**
 * What a refusal says of the account.
 * @throws TransientError when it says nothing of it
 */
function saidBy(error: XrpcRefusedError, host: string, did: string): HostingStatus {
  switch (error.reason) {
    case 'repo-not-found':
      return { kind: 'gone' }
    case 'repo-takendown':
      return { kind: 'hosted', host, active: false, status: 'takendown' }
    case 'repo-suspended':
      return { kind: 'hosted', host, active: false, status: 'suspended' }
    case 'repo-deactivated':
      return { kind: 'hosted', host, active: false, status: 'deactivated' }
    case 'not-implemented':
    case 'unauthorized':
    case 'xrpc-refused':
    case 'xrpc-bad-response':
      throw asTransient(did, error)
    default:
      return error.reason satisfies never
  }
}

/**
 * What a host answers, or where it redirects us, is its own affair. An address that is of no use is no fault of Sluice.
 */
function asTransient(did: string, error: unknown): unknown {
  if (!(error instanceof RefusedError)) return error
  return new TransientError(`${did}: its host does not say whether it is there`, { cause: error })
}
