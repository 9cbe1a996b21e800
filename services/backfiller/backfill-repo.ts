/**
 * One repository: fetched, verified, appended. The heart of the service; everything around it decides when and how
 * often.
 *
 *     fetch → verify whole → (first time or resync?) → chunks → chain state
 *
 * - Nothing is appended before the whole export is verified. Each chunk is one atomic append. The chain state moves
 *   with the last chunk.
 * - A host may answer that it does not serve an account: taken down, suspended, deactivated, or gone. This becomes an
 *   `account` event, but only if the host is still the account's PDS: the account may have moved meanwhile. "Not found"
 *   must be confirmed by a second, different request.
 * - A bad signature may mean that the account has a new key. The identity is refreshed once, and the same export is
 *   verified again.
 */
import { FUTURE_MS } from '@sluice/atproto/commit.ts'
import { verifyExport, type RepoExport } from '@sluice/atproto/repo-export.ts'
import type { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { Identity } from '@sluice/atproto/identity.ts'
import { CrowdedError } from '@sluice/atproto/throttle.ts'
import { tidMicros } from '@sluice/events/tid.ts'
import { XrpcRefusedError, type RepoStatus } from '@sluice/atproto/xrpc.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { SEQ_BACKFILL, type AccountEvent } from '@sluice/events/stream-event.ts'
import type { Budget } from '@sluice/runtime/budget.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { markInactive } from '@sluice/streams/chain-state.ts'
import { hostOf } from '@sluice/streams/cursors.ts'
import { identityOf } from './account.ts'
import { appendExport, type AppendContext, type AppendedExport } from './append-export.ts'
import { refuse } from './failures.ts'
import { fetchExport, reportOf, type FetchContext, type FetchedExport } from './fetch-export.ts'
import type { Permit } from './pds-limits.ts'
import type { RepoMemory } from './repo-memory.ts'
import { mayKeepStatus } from './unconfirmed.ts'

export interface BackfillContext extends FetchContext, AppendContext {
  /** The stream of the queue; its name is part of the keys beside it. */
  queue: string
  identities: IdentityResolver
  /** Limits how many exports are verified and appended at the same time. */
  parsers: Budget
}

/** One try for a repository, at the time when its host has a turn for it. */
export interface Visit {
  entry: BackfillEvent
  identity: Identity
  /** The origin to fetch the repository from. */
  url: string
  permit: Permit
  memory: RepoMemory
  /**
   * An operator waits for the repository. Lookups of its identity do not wait for those of other did:webs of the same
   * owner that are not urgent.
   */
  urgent: boolean
}

export type Outcome =
  | AppendedExport
  | { kind: 'account'; status: string }
  /** A host may have made the account up, and its status is not to be kept. */
  | { kind: 'no-account' }
  /** The account's PDS is another host than the one that was asked. That host is to be asked next. */
  | { kind: 'moved'; identity: Identity; url: string }

/**
 * Fetches, verifies and appends one repository, or appends the status that its host gives as the reason not to serve
 * it.
 * @throws RateLimitedError, TransientError, RefusedError, AbortError. Then nothing was appended, or only some chunks: a
 * later try appends the whole export again, as a resync
 */
export async function backfillRepo(context: BackfillContext, visit: Visit, signal: AbortSignal): Promise<Outcome> {
  const { entry, url, identity, permit, memory, urgent } = visit
  const target = { url, did: entry.did, attempts: entry.attempts ?? 0 }
  // Taken before the request, since the host's answer was true at some time after it. A later time could make an old
  // answer win over newer news. For example: the host answers "deactivated", then the account returns and its host
  // dates that 12:01. If our event had the time 12:02, the account would stay deactivated.
  const askedAt = new Date().toISOString()
  let fetched: FetchedExport
  try {
    fetched = await fetchExport(context, target, { permit, memory, signal })
  } catch (error) {
    if (error instanceof XrpcRefusedError && error.reason.startsWith('repo-')) {
      const moved = await movedFrom(context, { did: entry.did, url, urgent })
      return moved ?? accountOutcome(context, visit, { answer: error, askedAt }, signal)
    }
    throw error
  }
  using _ = fetched
  await context.parsers.acquire(1, signal)
  try {
    using verified = await verifyWithFreshKey(context, fetched, { identity, urgent }, signal)
    checkRev(verified, entry)
    return await appendExport(context, verified, entry, fetched.time, signal)
  } finally {
    context.parsers.release(1)
  }
}

/**
 * Refreshes the identity. Returns the outcome `moved` when the account's PDS is now another host than `url`. Undefined
 * when it is not, and when the account has no identity or no PDS.
 */
export async function movedFrom(
  { identities }: Pick<BackfillContext, 'identities'>,
  { did, url, urgent }: { did: string; url: string | undefined; urgent: boolean },
): Promise<Outcome | undefined> {
  const { resolution } = await identities.refresh(did, undefined, { urgent })
  if (resolution.status !== 'found') return undefined
  const { identity } = resolution
  return identity.pds === undefined || identity.pds === url ? undefined : { kind: 'moved', identity, url: identity.pds }
}

async function verifyWithFreshKey(
  context: BackfillContext,
  { store }: FetchedExport,
  { identity, urgent }: Pick<Visit, 'identity' | 'urgent'>,
  signal: AbortSignal,
): Promise<RepoExport> {
  const { did, signingKey } = identity
  if (signingKey === undefined) throw refuse('identity-no-key', `${did} has no signing key`)
  try {
    return await verifyExport(store, { did, signingKey }, signal)
  } catch (error) {
    if (!(error instanceof RefusedError) || error.reason !== 'export-bad-signature') throw error
    const { resolution } = await context.identities.refresh(did, undefined, { urgent }).catch(afterFetch)
    const fresh = identityOf(did, resolution).signingKey
    if (fresh === undefined || fresh === signingKey) throw error
    return verifyExport(store, { did, signingKey: fresh }, signal)
  }
}

/**
 * For a lookup after the fetch: when it fails, the fetched export is lost. After a `CrowdedError` the repository would
 * be tried, and so fetched, again within seconds. So that becomes a plain `TransientError`: the repository waits for as
 * long as if its host did not answer.
 */
function afterFetch(error: unknown): never {
  throw error instanceof CrowdedError ? new TransientError(error.message, { cause: error }) : error
}

function checkRev({ rev }: RepoExport, entry: BackfillEvent): void {
  if (tidMicros(rev) / 1000 > Date.now() + FUTURE_MS) throw refuse('export-future-rev', rev)
  if (rev < entry.rev) throw refuse('export-stale', `the host has ${rev}, and ${entry.rev} was listed`)
}

async function accountOutcome(
  context: BackfillContext,
  { entry, url }: Visit,
  { answer, askedAt }: { answer: XrpcRefusedError; askedAt: string },
  signal: AbortSignal,
): Promise<Outcome> {
  const { did } = entry
  const status = answer.reason === 'repo-not-found' ? await confirmMissing(context, url, did, signal) : statusOf(answer)
  if (!(await mayKeepStatus(context, entry))) return { kind: 'no-account' }
  const event: AccountEvent = {
    type: 'account',
    seq: SEQ_BACKFILL,
    time: askedAt,
    did,
    active: false,
    status,
    host: hostOf(url),
  }
  await context.producer.append([event], signal, { also: [markInactive(did)] })
  return { kind: 'account', status }
}

/**
 * The status of an account whose repository the host does not find, asked with a second, different request.
 * @throws RefusedError `not-found-unconfirmed` when the host contradicts itself or does not say why; TransientError,
 * FatalError, AbortError
 */
async function confirmMissing(
  context: BackfillContext,
  url: string,
  did: string,
  signal: AbortSignal,
): Promise<string> {
  const { xrpc, limits, options } = context
  const permit = await limits.wait(new URL(url).host, signal)
  let answer: RepoStatus
  try {
    const { headersMs, idleMs } = options
    answer = await xrpc.getRepoStatus(url, did, { signal, limits: { headersMs, idleMs } })
    await permit.release({ verdict: 'ok' })
  } catch (error) {
    await permit.release({ ...reportOf(error), repo: did })
    if (!(error instanceof XrpcRefusedError)) throw error
    if (error.reason === 'repo-not-found') return 'deleted'
    if (error.reason.startsWith('repo-')) return statusOf(error)
    throw refuse('not-found-unconfirmed', `${url} does not find ${did}, and cannot say why: ${error.message}`)
  }
  if (answer.active) throw refuse('not-found-unconfirmed', `${url} does not find ${did}, and says that it is active`)
  return answer.status ?? 'deactivated'
}

/** `repo-takendown` → `takendown` */
function statusOf({ reason }: XrpcRefusedError): string {
  return reason.slice('repo-'.length)
}
