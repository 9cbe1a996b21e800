/**
 * Verifies handles, beside the data path: takes accounts from the durable queue, asks the directory and the hosts, and
 * stores the result. No connection to the database is held while it asks, and no event ever waits for it. Several
 * indexers share the queue.
 *
 * - New accounts and identity events go first, then handles whose last check is old, then failed checks. Each queue
 *   has places of its own, so broken accounts take up their own share of the places and nothing more.
 * - A handle that could not be checked stays as it is. An account is turned away when too many others wait for their
 *   did:webs, or when too many handles of the same owner get no answer. Nothing was tried for it then, so it keeps its
 *   queue.
 * - While the directory answers nobody, single accounts are used to probe it. The others stay in the queue.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { HandleResolver } from '@sluice/atproto/handle-resolver.ts'
import type { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { parseDidDocument, type Identity, type Resolution } from '@sluice/atproto/identity.ts'
import { CrowdedError } from '@sluice/atproto/throttle.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import {
  HANDLE_QUEUES,
  claimHandleChecks,
  overdueHandleChecks,
  type HandleCheck,
  type HandleClaim,
  type Shares,
} from '@sluice/indexing/handle-checks.ts'
import { endHandleChecks } from '@sluice/indexing/handles.ts'
import { Backoff, retryAfterMs, type BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { isInShard, WHOLE, type Shard } from '@sluice/streams/spread.ts'
import { nextCheck, type HandleFinding, type HandleSchedule } from './handle-schedule.ts'

export interface HandlesOptions {
  db: DatabasePool
  identities: Pick<IdentityResolver, 'resolve' | 'refresh'>
  handles: Pick<HandleResolver, 'verify'>
  log: Logger
  metrics: Metrics
  /** How many accounts are checked at the same time. */
  concurrency: number
  schedule: HandleSchedule
  /** The shard whose identity events come through our Redis; default: all accounts. */
  shard?: Shard
  /** How often an empty queue is looked at. */
  pollMs?: number
  /** How long a claim lasts; longer than any check takes. */
  claimMs?: number
  /** How long to wait between probes of a directory that is down. */
  outage?: BackoffPolicy
}

const OUTCOMES = ['verified', 'none', 'unknown', 'turned-away'] as const
/** After this many failures in a row the directory counts as down. */
const OUTAGE_FAILURES = 16
/** After this many times `concurrency` checks were turned away, there is a pause. */
const TURNED_AWAY_ROUNDS = 2
const OUTAGE_BACKOFF: BackoffPolicy = { baseMs: 2_000, capMs: 20_000, healthyAfterMs: 0 }

export class Handles implements Service {
  readonly name = 'handles'
  readonly #options: Required<HandlesOptions>
  readonly #metrics: ReturnType<typeof declareMetrics>
  readonly #inFlight = new Map<string, HandleClaim>()
  readonly #outage: Backoff
  #done: HandleCheck[] = []
  #failure: { error: unknown } | undefined
  #wake: (() => void) | undefined
  #directoryFailures = 0
  /** Checks that were turned away since the last pause. */
  #turnedAway = 0
  #pausedUntil = 0

  constructor(options: HandlesOptions) {
    this.#options = { pollMs: 500, claimMs: 600_000, outage: OUTAGE_BACKOFF, shard: WHOLE, ...options }
    this.#metrics = declareMetrics(options.metrics, options.db)
    this.#outage = new Backoff(this.#options.outage)
  }

  async run(signal: AbortSignal): Promise<void> {
    const onAbort = (): void => this.#wake?.()
    signal.addEventListener('abort', onAbort)
    try {
      // Results that are not written are found out again when their claims expire. So a stop does not wait for a
      // database that is away.
      await this.#work(signal).catch((error: unknown) => {
        if (!signal.aborted || !(error instanceof TransientError)) throw error
      })
      this.#giveBack()
      await this.#endHandleChecks().catch((error: unknown) => {
        if (!(error instanceof TransientError)) throw error
      })
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async #work(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#endHandleChecks()
      const begun = await this.#begin()
      if (this.#turnedAway >= TURNED_AWAY_ROUNDS * this.#options.concurrency) {
        // A check that is turned away ends at once. Without a pause such accounts would be claimed and written as fast
        // as PostgreSQL can, for as long as their owner is slow.
        this.#turnedAway = 0
        await delay(this.#options.pollMs, undefined, { signal }).catch(() => {})
      } else if (this.#done.length === 0 && begun === 0) await this.#sleep(signal)
    }
  }

  /** @returns how many checks it began */
  async #begin(): Promise<number> {
    const shares = this.#shares()
    if (HANDLE_QUEUES.every((queue) => shares[queue] <= 0)) return 0
    const nowMs = Date.now()
    const [now, until] = [nowMs, nowMs + this.#options.claimMs].map((ms) => new Date(ms).toISOString())
    const claims = await claimHandleChecks(this.#options.db, { now: now!, until: until!, shares })
    for (const claim of claims) {
      this.#inFlight.set(claim.did, claim)
      void this.#run(claim)
    }
    return claims.length
  }

  /** The free places of each queue. */
  #shares(): Shares {
    if (this.#directoryFailures >= OUTAGE_FAILURES) {
      const places = this.#inFlight.size === 0 && Date.now() >= this.#pausedUntil ? 1 : 0
      return { new: places, again: places, failing: places }
    }
    const { concurrency } = this.#options
    const failing = Math.max(1, Math.floor(concurrency / 8))
    const again = Math.max(1, Math.floor(concurrency / 5))
    const shares = { new: Math.max(1, concurrency - again - failing), again, failing }
    for (const { queue } of this.#inFlight.values()) shares[queue]--
    return shares
  }

  async #run(claim: HandleClaim): Promise<void> {
    try {
      const checkedAt = new Date().toISOString()
      const finding = await this.#find(claim)
      if (this.#inFlight.get(claim.did) !== claim) return // given back meanwhile
      const next = nextCheck(claim, finding, this.#options.schedule, Date.now(), Math.random)
      this.#metrics.checks.inc(1, { queue: claim.queue, outcome: finding.outcome })
      if (finding.outcome === 'turned-away') this.#turnedAway++
      this.#done.push({ claim, checkedAt, next, ...handleOf(finding) })
      this.#inFlight.delete(claim.did)
    } catch (error) {
      this.#failure = { error }
    }
    this.#wake?.()
  }

  async #find({ did, queue, imported }: HandleClaim): Promise<HandleFinding> {
    try {
      const known = imported === null ? undefined : await this.#options.handles.verify(identityIn(did, imported))
      if (known !== undefined) return { outcome: 'verified', handle: known }
      const resolution = await this.#identity(did, queue)
      if (resolution.status !== 'found') return { outcome: 'none' }
      const handle = await this.#options.handles.verify(resolution.identity)
      return handle === undefined ? { outcome: 'none' } : { outcome: 'verified', handle }
    } catch (error) {
      if (!(error instanceof TransientError)) throw error
      this.#options.log.debug({ did, error: error.message }, 'a handle could not be verified')
      return { outcome: error instanceof CrowdedError ? 'turned-away' : 'unknown', retryAfterMs: retryAfterMs(error) }
    }
  }

  /**
   * The account's identity: from the cache where the cache is known to be current, else asked for anew. It is current
   * for an account in `new`: its identity event has purged the cache, so whatever is there is newer than the event.
   *
   * It is asked for anew in three cases: an account that is checked because its last check is old or failed; an account
   * of another shard, whose events purge another cache; and every did:plc while the last question to the directory has
   * failed, because a cached answer does not tell whether the directory answers.
   */
  async #identity(did: string, queue: HandleClaim['queue']): Promise<Resolution> {
    const { identities, shard } = this.#options
    const isOfDirectory = did.startsWith('did:plc:')
    const isPurged = queue === 'new' && isInShard(did, shard)
    const isInDoubt = isOfDirectory && this.#directoryFailures > 0
    try {
      if (isPurged && !isInDoubt) return await identities.resolve(did)
      const { resolution, refreshed } = await identities.refresh(did)
      if (isOfDirectory && refreshed) this.#answered()
      return resolution
    } catch (error) {
      if (isOfDirectory && error instanceof TransientError && !(error instanceof CrowdedError)) this.#unanswered()
      throw error
    }
  }

  #answered(): void {
    if (this.#directoryFailures >= OUTAGE_FAILURES) this.#options.log.info('the directory answers again')
    this.#directoryFailures = 0
    this.#outage.reset()
  }

  #unanswered(): void {
    this.#directoryFailures++
    if (this.#directoryFailures < OUTAGE_FAILURES) return
    if (this.#directoryFailures === OUTAGE_FAILURES) {
      this.#metrics.outages.inc(1)
      this.#options.log.warn('the directory does not answer; handles wait, events do not')
    }
    this.#pausedUntil = Date.now() + this.#outage.nextMs()
  }

  /** Writes the finished checks. When that fails, they are kept for the next try. */
  async #endHandleChecks(): Promise<void> {
    if (this.#failure) throw this.#failure.error
    const checks = [...this.#done]
    if (checks.length === 0) return
    const { dispossessed } = await endHandleChecks(this.#options.db, checks)
    this.#metrics.dispossessed.inc(dispossessed)
    this.#done = this.#done.slice(checks.length)
  }

  /** Gives back the claims of checks that are under way: they are due at once, for the next process. */
  #giveBack(): void {
    const now = new Date().toISOString()
    for (const claim of this.#inFlight.values()) {
      const { queue, tries } = claim
      this.#done.push({ claim, checkedAt: now, next: { queue, dueAt: now, tries } })
    }
    this.#inFlight.clear()
  }

  async #sleep(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, this.#options.pollMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = undefined
  }
}

/** The identity in an imported document; only the DID when the document is not valid. */
function identityIn(did: string, document: unknown): Identity {
  try {
    return parseDidDocument(did, document)
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error
    return { did }
  }
}

function handleOf(finding: HandleFinding): { handle?: string | null } {
  switch (finding.outcome) {
    case 'verified':
      return { handle: finding.handle }
    case 'none':
      return { handle: null }
    case 'unknown':
    case 'turned-away':
      return {}
  }
}

function declareMetrics(metrics: Metrics, db: DatabasePool) {
  metrics.gauge({
    name: 'sluice_handle_overdue_seconds',
    help: 'For how long the check of a handle that waits longest has been due. new rising: raise INDEXER_HANDLE_CONCURRENCY, or look whether the directory (PLC_URL) answers.',
    labels: { queue: HANDLE_QUEUES },
    collect: async (gauge) => {
      const overdue = await overdueHandleChecks(db, new Date())
      for (const queue of HANDLE_QUEUES) gauge.set(overdue[queue], { queue })
    },
  })
  return {
    checks: metrics.counter({
      name: 'sluice_handle_checks_total',
      help: 'Checks of handles. unknown: a directory, name server or host did not answer; nothing is changed, and it is tried again. turned-away: nobody was asked, because too many questions wait for the hosts of did:webs, or too many for the silent servers of one owner. This does not count as a failure, and a new handle is due again within 90 s, or within 6 min if the servers of its owner stay silent.',
      labels: { queue: HANDLE_QUEUES, outcome: OUTCOMES },
    }),
    dispossessed: metrics.counter({
      name: 'sluice_handle_dispossessed_total',
      help: 'Accounts that lost their handle because it was verified for another account.',
    }),
    outages: metrics.counter({
      name: 'sluice_handle_directory_outages_total',
      help: 'How often the DID directory stopped answering altogether. Checks of handles wait meanwhile; events do not.',
    }),
  }
}
