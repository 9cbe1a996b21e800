/**
 * What follows from a failure: when the repository is tried again, and after how many tries it is given up. Pure; the
 * limits are data.
 *
 * | class           | what happened                                                             | first wait | given up after              |
 * |-----------------|---------------------------------------------------------------------------|------------|-----------------------------|
 * | `unavailable`   | network, timeouts, 5xx, a web page, no room here: tells nothing of it     | 1 ×        | never                       |
 * | `no-document`   | the host of a did:web does not give its document: as the line above       | 1 ×        | never                       |
 * | `limited`       | 429, and for four days the host has given hardly any other answer         | 60 ×       | 3 tries                     |
 * | `crowded`       | too many lookups of did:webs wait here: nothing was tried                 | 10 s       | never                       |
 * | `in-front`      | 4xx that is no XRPC error: somebody answers in place of the host          | 20 ×       | 14 tries, or 3 in four days |
 * | `incomplete`    | parts of the export are missing: cut short, or never whole                | 2 ×        | 8 tries                     |
 * | `disabled`      | 501: "disabled for new repositories", or a host that cannot               | 12 h       | 14 tries                    |
 * | `invalid`       | the export is not what it claims to be: hash, signature, tree, …          | 20 ×       | 5 tries                     |
 * | `overtaken`     | live commits were sent on during the export, or Redis lost a chunk        | 1/30 ×     | 14 tries                    |
 * | `stale`         | the host's copy is older than the listed rev                              | 20 ×       | 5 tries                     |
 * | `refused`       | the host refuses, or its answers contradict each other                    | 20 ×       | 5 tries                     |
 * | `identity`      | the account has no document, no host or no key                            | 60 ×       | 5 tries                     |
 * | `unacceptable`  | too large, a private address, a redirect that leads nowhere               | 60 ×       | 3 tries                     |
 * | `bug`           | an error of ours                                                          | 20 ×       | 3 tries                     |
 *
 * Each class has a count of its own, which lasts until the repository is fetched or given up: failures of other classes
 * in between neither add to it nor reset it. So an outage uses up no tries, and a host that fails in another way each
 * time, or is away now and then, does not keep its repositories for ever.
 *
 * Waits are multiples of BACKFILLER_RETRY_MS that double with each failure of the same class, up to
 * BACKFILLER_RETRY_MAX_MS. `disabled` always waits 12 h. `crowded` waits 10 s, and then for its turn among the did:webs
 * of its owner. All waits are stretched at random by up to a half, and are never shorter than what the host asked for.
 *
 * `crowded` is nobody's fault: the entry keeps the count of failures that it had.
 *
 * `in-front` is an outage of something in front of the host, and says nothing about the repository. But some hosts
 * never end it. The 14 tries take two to four days with the default waits: time in which a CDN is corrected, or the
 * account is found to have moved. A host with many such repositories is parked for ten minutes after each of them, so
 * that 14 tries of a thousand repositories would take 97 days. So a repository that has failed for four days is given
 * up, if it was tried three times. It would be wrong to give up all repositories of a host at once: a CDN may have shut
 * us out, and the repositories of all its hosts would fill the room for dead letters.
 *
 * A did:web that is given up may leave no dead letter at all (`passed-over.ts`).
 */
import { HTTP_REFUSALS } from '@sluice/atproto/http.ts'
import { EXPORT_REFUSALS } from '@sluice/atproto/repo-export.ts'
import { NotXrpcError, RateLimitedError, XRPC_REFUSALS } from '@sluice/atproto/xrpc.ts'
import { CrowdedError } from '@sluice/atproto/throttle.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { describeError, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { mayBeMadeUp } from './unconfirmed.ts'

export const FAILURE_CLASSES = [
  'unavailable',
  'no-document',
  'limited',
  'crowded',
  'in-front',
  'incomplete',
  'disabled',
  'invalid',
  'overtaken',
  'stale',
  'refused',
  'identity',
  'unacceptable',
  'bug',
] as const
export type FailureClass = (typeof FAILURE_CLASSES)[number]

interface Rule {
  /** The first wait, as a multiple of `retryMs`. Default: 1. */
  factor?: number
  /** A fixed wait instead of a multiple. It does not double. */
  firstMs?: number
  tries: number
  /** For how long failures are borne with. After that, `PATIENT_TRIES` are enough to give an entry up. */
  patienceMs?: number
}

const HOUR_MS = 3_600_000
/**
 * An entry may fail once, then not be asked for days since its host is parked, and fail again. That is no four days of
 * trying: so patience alone does not give an entry up.
 */
const PATIENT_TRIES = 3

/**
 * A 429 normally costs the repository no try. A host that has given hardly any other answer for so long may never give
 * one, and its repositories would take turns for ever: from then on each 429 counts as a try. As long as the patience
 * with `in-front`.
 */
export const LIMITED_MS = 96 * HOUR_MS

const RULES: Record<FailureClass, Rule> = {
  unavailable: { factor: 1, tries: Infinity },
  'no-document': { factor: 1, tries: Infinity },
  limited: { factor: 60, tries: 3 },
  crowded: { firstMs: 10_000, tries: Infinity },
  // The patience is longer than 14 tries take with the default waits, if the host is not parked.
  'in-front': { factor: 20, tries: 14, patienceMs: 96 * HOUR_MS },
  incomplete: { factor: 2, tries: 8 },
  disabled: { firstMs: 12 * HOUR_MS, tries: 14 },
  invalid: { factor: 20, tries: 5 },
  // A new fetch normally contains the live commits that overtook the export. Many tries, since a host's exports may lag
  // behind its own live stream.
  overtaken: { factor: 1 / 30, tries: 14 },
  stale: { factor: 20, tries: 5 },
  refused: { factor: 20, tries: 5 },
  identity: { factor: 60, tries: 5 },
  unacceptable: { factor: 60, tries: 3 },
  bug: { factor: 20, tries: 3 },
}

/** Refusals of this service, beside those of the atproto package. */
const REPO_REFUSALS = [
  'identity-missing',
  'identity-invalid',
  'identity-no-pds',
  'identity-no-key',
  'export-future-rev',
  'export-stale',
  'export-overtaken',
  'not-found-unconfirmed',
] as const
export type RepoRefusal = (typeof REPO_REFUSALS)[number]

/** A refusal for the caller to throw. */
export function refuse(reason: RepoRefusal, detail: string): RefusedError<RepoRefusal> {
  return new RefusedError(reason, detail)
}

/** The host that keeps the document of a did:web answers with an error, or does not answer. */
export class NoDocumentError extends TransientError {
  override name = 'NoDocumentError'
}

/** Every reason that a dead letter of this service can have. `unavailable` and `crowded` never give an entry up. */
export const DEAD_REASONS = [
  ...REPO_REFUSALS,
  ...EXPORT_REFUSALS,
  ...XRPC_REFUSALS,
  ...HTTP_REFUSALS,
  'not-xrpc',
  'rate-limited',
  'crash-loop',
  'bug',
] as const
export type DeadReason = (typeof DEAD_REASONS)[number]

const INCOMPLETE = new Set<string>(['car-truncated', 'export-no-commit', 'mst-incomplete'])
const TOO_LARGE = new Set<string>(['car-too-large', 'car-too-many-blocks'])
const EXPORT = new Set<string>(EXPORT_REFUSALS)
const XRPC = new Set<string>(XRPC_REFUSALS)
const HTTP = new Set<string>(HTTP_REFUSALS)

export interface Failure {
  class: FailureClass
  reason: DeadReason | 'unavailable' | 'crowded'
  detail: string
  /** The wait that the host or directory asked for; 0: none. */
  retryAfterMs: number
}

export type Consequence =
  | { act: 'retry'; delayMs: number; entry: BackfillEvent }
  | { act: 'bury'; reason: DeadReason; detail: string; attempts: number }

export interface RetryLimits {
  retryMs: number
  retryMaxMs: number
}

/** The class and the reason of an error of a fetch, a check or a lookup of an identity. */
export function failureOf(error: unknown): Failure {
  const detail = describeError(error)
  const failure = (of: FailureClass, reason: string): Failure => ({
    class: of,
    reason: reason as Failure['reason'],
    detail,
    retryAfterMs: error instanceof TransientError ? (error.retryAfterMs ?? 0) : 0,
  })
  if (error instanceof CrowdedError) return failure('crowded', 'crowded')
  if (error instanceof NotXrpcError) return failure('in-front', 'not-xrpc')
  if (error instanceof RateLimitedError) return failure('limited', 'rate-limited')
  if (error instanceof NoDocumentError) return failure('no-document', 'unavailable')
  if (error instanceof TransientError) return failure('unavailable', 'unavailable')
  if (!(error instanceof RefusedError)) return failure('bug', 'bug')
  const { reason } = error
  if (INCOMPLETE.has(reason)) return failure('incomplete', reason)
  if (TOO_LARGE.has(reason) || HTTP.has(reason)) return failure('unacceptable', reason)
  if (reason === 'not-implemented') return failure('disabled', reason)
  if (reason === 'export-overtaken') return failure('overtaken', reason)
  if (reason === 'export-stale') return failure('stale', reason)
  if (reason.startsWith('identity-')) return failure('identity', reason)
  if (EXPORT.has(reason) || reason === 'export-future-rev') return failure('invalid', reason)
  if (XRPC.has(reason) || reason === 'not-found-unconfirmed') return failure('refused', reason)
  return failure('bug', 'bug')
}

/** Decides what to do with an entry that failed. `entry.attempts` and `entry.earlier` count its failures by class. */
export function consequenceOf(
  entry: BackfillEvent,
  failure: Failure,
  limits: RetryLimits,
  { random = Math.random, now = Date.now } = {},
): Consequence {
  const { [failure.class]: before = 0, ...earlier } = countsOf(entry)
  const attempts = before + 1
  const rule = RULES[failure.class]
  const { failingSince = now() } = entry
  if (attempts >= rule.tries || isPastPatience(rule, attempts, now() - failingSince)) {
    return { act: 'bury', reason: failure.reason as DeadReason, detail: failure.detail, attempts }
  }
  const delayMs = Math.max(waitMs(rule, attempts, limits) * (1 + random() / 2), failure.retryAfterMs)
  // Nothing was tried, so the entry stays as it is. More attempts would give the next export more time.
  if (failure.class === 'crowded') return { act: 'retry', delayMs, entry }
  const { earlier: _, ...rest } = entry
  const counts = { attempts, failure: failure.class, ...(Object.keys(earlier).length > 0 && { earlier }) }
  const since = rule.patienceMs === undefined ? {} : { failingSince }
  const inAll = mayBeMadeUp(entry) ? { failures: (entry.failures ?? 0) + 1 } : {}
  return { act: 'retry', delayMs, entry: { ...rest, ...counts, ...since, ...inAll } }
}

/** How often an entry has failed so far, by class. Whatever else other programs have written there is left out. */
function countsOf({ attempts = 0, failure, earlier }: BackfillEvent): Partial<Record<FailureClass, number>> {
  const counts: Partial<Record<FailureClass, number>> = {}
  for (const each of FAILURE_CLASSES) {
    const count: unknown = each === failure ? attempts : (earlier as Record<string, unknown> | null | undefined)?.[each]
    if (Number.isSafeInteger(count) && (count as number) > 0) counts[each] = count as number
  }
  return counts
}

function isPastPatience({ patienceMs = Infinity }: Rule, attempts: number, failingMs: number): boolean {
  return attempts >= PATIENT_TRIES && failingMs >= patienceMs
}

function waitMs({ factor = 1, firstMs }: Rule, attempts: number, { retryMs, retryMaxMs }: RetryLimits): number {
  if (firstMs !== undefined) return firstMs
  return Math.min(retryMaxMs, retryMs * factor * 2 ** Math.min(attempts - 1, 30))
}
