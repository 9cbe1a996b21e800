/**
 * One repository: fetched, verified, appended. The heart of the service; everything around it decides when and how often.
 *
 *     fetch → verify whole → (first time or resync?) → chunks → chain state
 *
 * - Nothing is appended before everything is verified. A chunk is one atomic append; the chain state moves with the last.
 * - What the host says of an account that it does not serve (taken down, suspended, deactivated, gone) becomes an `account`
 *   event, after checking that it is the account's own, which may have moved meanwhile. "Not found" is confirmed by a second, different request.
 * - A bad signature may mean a new key: the identity is refreshed once, and the export at hand is checked again.
 */
import { setImmediate } from 'node:timers/promises'
import { FUTURE_MS } from '@sluice/atproto/commit.ts'
import { verifyExport, type RepoExport } from '@sluice/atproto/repo-export.ts'
import type { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { Identity } from '@sluice/atproto/identity.ts'
import { CrowdedError } from '@sluice/atproto/throttle.ts'
import { tidMicros } from '@sluice/events/tid.ts'
import { XrpcRefusedError, type RepoStatus } from '@sluice/atproto/xrpc.ts'
import type { CollectionFilter } from '@sluice/collections/patterns.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { SEQ_BACKFILL, type AccountEvent } from '@sluice/events/stream-event.ts'
import type { Budget } from '@sluice/runtime/budget.ts'
import { crashPoint } from '@sluice/runtime/crash-points.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import {
  beginExport,
  encodeChain,
  markInactive,
  moveChain,
  readChains,
  settleExport,
  type StoredChain,
} from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { ExportProgress } from '@sluice/streams/export-progress.ts'
import { StateConflictError, type Producer, type Step } from '@sluice/streams/producer.ts'
import { hostOf } from '@sluice/streams/cursors.ts'
import { identityOf } from './account.ts'
import { chunksOf, headOf, type ExportChunk, type ExportEvent } from './export-events.ts'
import { refuse } from './failures.ts'
import { fetchExport, reportOf, type FetchContext, type FetchedExport } from './fetch-export.ts'
import type { Permit } from './pds-limits.ts'
import type { RepoMemory } from './repo-memory.ts'

export interface BackfillContext extends FetchContext {
  redis: Redis
  identities: IdentityResolver
  producer: Producer<ExportEvent>
  wanted: CollectionFilter
  /** Exports that are verified and appended at the same time. */
  parsers: Budget
  /** Every export removes what is gone. */
  alwaysResync: boolean
  onChunk: (chunk: ExportChunk) => void
}

/** A repository whose turn it is. */
export interface Visit {
  entry: BackfillEvent
  identity: Identity
  /** The origin to ask. */
  url: string
  permit: Permit
  memory: RepoMemory
  /** Somebody waits for it: its identity is looked up before those of others of its owner. */
  urgent: boolean
}

export type Outcome =
  | { kind: 'exported'; resync: boolean; records: number }
  | { kind: 'account'; status: string }
  /** Its host is another than the one that was asked: ask there. */
  | { kind: 'moved'; identity: Identity; url: string }

/**
 * Does all for one repository.
 * @throws RateLimitedError, TransientError, RefusedError, AbortError; nothing was appended then, or with a later try it is made whole
 */
export async function backfillRepo(context: BackfillContext, visit: Visit, signal: AbortSignal): Promise<Outcome> {
  const { entry, url, identity, permit, memory, urgent } = visit
  const target = { url, did: entry.did, attempts: entry.attempts ?? 0 }
  // A status was true at some time since then. Noted later, it would win over what the account's host says in between.
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

/** Where the account is by now, when that is another host than `url`. */
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

/** What was fetched for it is lost: whoever is turned away now waits as for a host that does not answer, and not for seconds only. */
function afterFetch(error: unknown): never {
  throw error instanceof CrowdedError ? new TransientError(error.message, { cause: error }) : error
}

function checkRev({ rev }: RepoExport, entry: BackfillEvent): void {
  if (tidMicros(rev) / 1000 > Date.now() + FUTURE_MS) throw refuse('export-future-rev', rev)
  if (rev < entry.rev) throw refuse('export-stale', `the host has ${rev}, and ${entry.rev} was listed`)
}

export type AppendContext = Pick<BackfillContext, 'redis' | 'producer' | 'wanted' | 'alwaysResync' | 'onChunk'>

/**
 * Appends all chunks of a verified export, the chain state with the last; while one is on its way to Redis, the next is made.
 * @throws RefusedError `export-overtaken` when it is older than what is missing by now, or Redis has lost a chunk meanwhile; FatalError, AbortError
 */
export async function appendExport(
  context: AppendContext,
  repo: RepoExport,
  entry: BackfillEvent,
  time: string,
  signal: AbortSignal,
): Promise<Outcome> {
  const { producer, wanted, onChunk } = context
  const untouched = await untouchedChain(context, entry)
  const resync = untouched === undefined
  const progress = new ExportProgress(producer.stream, repo.did)
  let records = 0
  let isFirst = true
  let under: Promise<unknown> = Promise.resolve()
  for (const chunk of chunksOf(repo, { time, resync, wanted })) {
    await under
    if (!isFirst) crashPoint('chunk.between')
    onChunk(chunk)
    records += chunk.creates.length
    const events: ExportEvent[] = [...chunk.creates, ...(chunk.range ? [chunk.range] : [])]
    if (events.length === 0 && !chunk.isLast) {
      await setImmediate() // 5,000 records that nobody wants: nothing to append, and others want the thread
      signal.throwIfAborted()
      continue
    }
    if (chunk.isLast) {
      events.push(headOf(repo, time))
      const also = [
        ...progress.next(chunk),
        ...(untouched ? [stillUntouched(repo.did, untouched, isFirst)] : []),
        settleExport(repo.did, repo),
      ]
      const { stale } = await producer.append(events, signal, { also }).catch(asOvertaken)
      if (stale > 0) throw refuse('export-overtaken', `${repo.rev} does not reach what is missing`)
    } else {
      const also = [...progress.next(chunk), ...(isFirst ? [beginExport(repo.did)] : [])]
      under = producer.append(events, signal, { also }).catch(asOvertaken)
      under.catch(() => undefined) // it is awaited above, or by whoever gets the failure of the next
    }
    isFirst = false
  }
  return { kind: 'exported', resync, records }
}

/**
 * The chain record of an account of which the index holds nothing yet: neither an export nor live commits. Its first export need not say what is gone.
 * Undefined for any other, and when nothing is known: a record that came with a live commit may be gone by this export, and the commit that
 * deleted it will be taken for known, since the export is newer.
 */
async function untouchedChain(
  { redis, alwaysResync }: AppendContext,
  { did, reason }: BackfillEvent,
): Promise<StoredChain | undefined> {
  if (alwaysResync || (reason !== undefined && reason !== 'listed')) return undefined
  const [chain] = await readChains(redis, [did])
  return chain && !chain.record.exported && chain.record.rev === '' ? chain : undefined
}

/** Goes with the last chunk, which is not appended when a live commit was sent on meanwhile. */
function stillUntouched(did: string, chain: StoredChain, isOnlyChunk: boolean): Step {
  const record = { ...chain.record, exported: chain.record.exported || !isOnlyChunk }
  const from = isOnlyChunk ? chain : { record, bytes: encodeChain(record) }
  return moveChain(did, from, record)
}

function asOvertaken(error: unknown): never {
  if (!(error instanceof StateConflictError)) throw error
  throw refuse(
    'export-overtaken',
    'live commits of the account were sent on meanwhile, or Redis has lost a part of the export: it comes again, as a resync',
  )
}

async function accountOutcome(
  context: BackfillContext,
  { entry, url }: Visit,
  { answer, askedAt }: { answer: XrpcRefusedError; askedAt: string },
  signal: AbortSignal,
): Promise<Outcome> {
  const { did } = entry
  const status = answer.reason === 'repo-not-found' ? await confirmMissing(context, url, did, signal) : statusOf(answer)
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

/** What the host says of an account whose repository it does not find, asked in another way. */
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
