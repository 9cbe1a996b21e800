/**
 * Carries out deletions, beside the data path: confirms a reported deletion with the account's host, purges the
 * account, and requests the repository of an account that is back. Every step is durable before the next one begins. If
 * the process dies, its claim expires, and the worker that takes the claim next continues from the last durable step.
 */
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { SEQ_BACKFILL, type AccountEvent } from '@sluice/events/stream-event.ts'
import { applyBatch, type Index } from '@sluice/indexing/apply-batch.ts'
import { bulkPhase } from '@sluice/indexing/bulk/phase.ts'
import {
  claimDeletions,
  DELETION_QUEUES,
  failDeletion,
  forgetDeletion,
  overdueDeletions,
  putOffDeletion,
  giveBackDeletion,
  type DeletionClaim,
  type DeletionQueue,
} from '@sluice/indexing/deletion-queue.ts'
import { purgeAccount, reopenAccount } from '@sluice/indexing/purge.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { readChains, moveChain, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { StateConflictError, type Producer } from '@sluice/streams/producer.ts'
import { isInShard, WHOLE, type Shard } from '@sluice/streams/spread.ts'
import { inMs, UNANSWERED, Unanswered } from './ask-again.ts'
import { HostPace } from './host-pace.ts'
import { runWorkers } from './queue-workers.ts'
import { askHostingStatus, type StatusSources, type HostingStatus } from './hosting-status.ts'

export interface DeletionsOptions extends StatusSources {
  index: Index
  redis: Redis
  /** The shard whose chain records and backfill requests are in this Redis; default: all accounts. */
  shard?: Shard
  /** Default: a `HostPace` of its own. */
  pace?: HostPace
  /** Appends to the stream of repositories to fetch. */
  producer: Producer<BackfillEvent>
  log: Logger
  metrics: Metrics
  pollMs?: number
  /** The first wait after a question that nobody answered. It doubles from there. */
  retryMs?: number
  claimMs?: number
  batchRecords?: number
}

const OUTCOMES = ['purged', 'hosted', 'returned', ...UNANSWERED] as const
/**
 * Workers of each queue. Somebody with a thousand accounts at a host that never answers, or answers slowly, delays only
 * the accounts in `failing`, and there one owner has one place at a time. A purge of millions of records does not delay
 * accounts in `returned`.
 */
const WORKERS: Record<DeletionQueue, number> = { returned: 1, new: 3, failing: 4 }
/**
 * For an account of another shard: after about this long it is looked at again. An indexer of that shard should find it
 * first.
 */
const OTHERS_MS = 2_000
/**
 * During a first load the indexes by which a purge finds notifications to other accounts are dropped, so a purge waits
 * for its end. The account is hidden meanwhile.
 */
const LOADING_MS = 5_000

export class Deletions implements Service {
  readonly name = 'deletions'
  readonly #options: Required<DeletionsOptions>
  readonly #db: DatabasePool
  readonly #outcomes
  readonly #unanswered: Unanswered<DeletionClaim>

  constructor(options: DeletionsOptions) {
    const defaults = { pollMs: 1_000, retryMs: 10_000, claimMs: 900_000, batchRecords: 500, shard: WHOLE }
    this.#options = { ...defaults, pace: new HostPace(), ...options }
    this.#db = options.index.db
    this.#outcomes = options.metrics.counter({
      name: 'sluice_account_deletions_total',
      help: 'Reported deletions of accounts, by what came of them. purged: confirmed and carried out. hosted: the account still exists. returned: the account is back, and its repository was requested. put-off: the host was slow lately; the question moves to the queue of hosts that do not answer. turned-away: nobody was asked, because too many questions wait for the hosts of did:webs, or because of slow or silent hosts of the same owner, or of other owners that are slow too; due again within 15 s, or within 13 min if these stay silent. unknown: nobody answered; asked again.',
      labels: { outcome: OUTCOMES },
    })
    const { log } = options
    const { retryMs, pollMs } = this.#options
    this.#unanswered = new Unanswered({
      fail: ({ did }, dueAt) => failDeletion(this.#db, did, dueAt),
      giveBack: ({ did }, dueAt) => giveBackDeletion(this.#db, did, dueAt),
      count: (outcome) => this.#outcomes.inc(1, { outcome }),
      log,
      retryMs,
      pollMs,
    })
    options.metrics.gauge({
      name: 'sluice_account_deletion_overdue_seconds',
      help: 'For how long the reported deletion that waits longest has been due. new rising: more are reported than can be confirmed and carried out. returned rising: the repositories of accounts that are back are not requested. For both see accounts-behind in DATAPLANE_DEBUG.md. failing rising: hosts do not answer, or are slow.',
      labels: { queue: DELETION_QUEUES },
      collect: async (gauge) => {
        const overdue = await overdueDeletions(options.index.db, new Date())
        for (const queue of DELETION_QUEUES) gauge.set(overdue[queue], { queue })
      },
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    const { pollMs, claimMs } = this.#options
    await runWorkers(
      {
        workers: WORKERS,
        pollMs,
        claimMs,
        claim: (wanted) => claimDeletions(this.#db, wanted),
        work: (claim, queue, ends) => this.#work(claim, queue, ends),
      },
      signal,
    )
  }

  /**
   * Works on one claim. If nobody can be asked about the account, the claim is put off. Any other failure is a fault of
   * Sluice, Redis or PostgreSQL, and is thrown.
   */
  async #work(claim: DeletionClaim, queue: DeletionQueue, signal: AbortSignal): Promise<void> {
    const { did, state, deletedAt } = claim
    const { shard, pace } = this.#options
    if (!isInShard(did, shard)) return await putOffDeletion(this.#db, did, inMs(OTHERS_MS * (0.5 + Math.random())))
    if (state === 'returned') return await this.#bringBack(claim, signal)
    if ((await bulkPhase(this.#db)) === 'loading') return await putOffDeletion(this.#db, did, inMs(LOADING_MS))
    const askedAtMs = Date.now()
    let found: HostingStatus
    try {
      found = await askHostingStatus(this.#options, did, { pace, inHaste: queue === 'new', signal })
    } catch (error) {
      return await this.#unanswered.end(claim, claim.tries, error, signal)
    }
    // A host that has the repository but does not tell its status: the account is not gone.
    if (found.kind === 'status-unknown') found = { ...found, kind: 'hosted', active: true }
    if (found.kind === 'hosted') return await this.#correct(claim, found, askedAtMs)
    const { index, batchRecords, log } = this.#options
    if (!(await purgeAccount(index, { did, deletedAt }, { signal, batchRecords }))) {
      return await putOffDeletion(this.#db, did, inMs(0))
    }
    await this.#resetChain(did, signal)
    this.#outcomes.inc(1, { outcome: 'purged' })
    log.info({ did }, 'purged a deleted account')
  }

  /**
   * Applies what the host says of the account. The event gets the time at which the host was asked, because news that
   * arrived while the answer was on its way are newer than the answer. Its time is always later than that of the
   * reported deletion.
   */
  async #correct(claim: DeletionClaim, found: HostingStatus & { kind: 'hosted' }, askedAtMs: number): Promise<void> {
    const { did, deletedAt } = claim
    const { kind, ...said } = found
    const time = new Date(Math.max(askedAtMs, Date.parse(deletedAt) + 1)).toISOString()
    const event: AccountEvent = { type: 'account', seq: SEQ_BACKFILL, time, did, ...said }
    try {
      await applyBatch(this.#options.index, [event])
    } catch (error) {
      // The answer comes from a host that anybody may run. If the index refuses its contents, that counts as no answer;
      // it must not end this process.
      if (!(error instanceof RefusedError)) throw error
      return await this.#unanswered.askAgain(claim, claim.tries, error)
    }
    await putOffDeletion(this.#db, did, inMs(0))
    this.#outcomes.inc(1, { outcome: kind })
  }

  async #bringBack(claim: DeletionClaim, signal: AbortSignal): Promise<void> {
    const { did } = claim
    await reopenAccount(this.#db, claim, signal)
    await this.#options.producer.append([{ did, host: '', rev: '', reason: 'reactivated' }], signal)
    await forgetDeletion(this.#db, did)
    this.#outcomes.inc(1, { outcome: 'returned' })
  }

  /** Resets the chain record: an account that comes back under this DID begins a new chain. */
  async #resetChain(did: string, signal: AbortSignal): Promise<void> {
    const { redis, producer } = this.#options
    for (;;) {
      const [stored] = await readChains(redis, [did])
      if (stored === undefined) return
      const { inactive } = stored.record
      try {
        await producer.append([], signal, { also: [moveChain(did, stored, { ...UNKNOWN_CHAIN, inactive })] })
        return
      } catch (error) {
        if (!(error instanceof StateConflictError)) throw error
      }
    }
  }
}
