/**
 * Asks hosts for the hosting status of accounts about which sources disagree (one says `active`, another
 * `deactivated`). When an account is due, and what comes of the answer, is in `account-checks.ts` of packages/indexing.
 *
 * The host that is asked is the one that the account's DID document names now. This runs beside the data path, and
 * holds no connection to the database while it waits for a host. Several indexers share the queue. While nobody
 * answers, the times of the conflicting statements decide.
 */
import type { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import {
  ACCOUNT_QUEUES,
  claimAccountChecks,
  failAccountCheck,
  overdueAccountChecks,
  giveBackAccountCheck,
  endAccountCheck,
  type AccountClaim,
  type AccountQueue,
} from '@sluice/indexing/account-checks.ts'
import { DELETED } from '@sluice/indexing/accounts.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { isInShard, WHOLE, type Shard } from '@sluice/streams/spread.ts'
import { UNANSWERED, Unanswered } from './ask-again.ts'
import { HostPace } from './host-pace.ts'
import { runWorkers } from './queue-workers.ts'
import { askHostingStatus, type Asking, type StatusSources } from './hosting-status.ts'

export interface AccountChecksOptions extends StatusSources {
  identities: Pick<IdentityResolver, 'resolve' | 'refresh' | 'purge'>
  /**
   * The shard whose account and identity events purge the identity cache that this process uses; default: all accounts.
   */
  shard?: Shard
  /** Default: a `HostPace` of its own. */
  pace?: HostPace
  db: DatabasePool
  log: Logger
  metrics: Metrics
  pollMs?: number
  /** The first wait after a question that nobody answered. It doubles from there. */
  retryMs?: number
  claimMs?: number
}

type Answer = Pick<AccountEvent, 'active' | 'status'>

const OUTCOMES = ['as-held', 'differs', 'overtaken', ...UNANSWERED] as const
/**
 * Workers of each queue. Hosts that never answer, or answer slowly, delay only the accounts in `failing`, and there one
 * owner has one place at a time.
 */
const WORKERS: Record<AccountQueue, number> = { new: 3, failing: 4 }

export class AccountChecks implements Service {
  readonly name = 'account-checks'
  readonly #options: Required<AccountChecksOptions>
  readonly #outcomes
  readonly #unanswered: Unanswered<AccountClaim>
  readonly #identities: StatusSources['identities']

  constructor(options: AccountChecksOptions) {
    this.#options = { pollMs: 1_000, retryMs: 10_000, claimMs: 120_000, shard: WHOLE, pace: new HostPace(), ...options }
    this.#outcomes = options.metrics.counter({
      name: 'sluice_account_checks_total',
      help: 'Checks of accounts about which different sources say different things: the host is asked for the status. as-held: the index was right. differs: the index was wrong, and is corrected. overtaken: something new was said meanwhile; the host is asked again. put-off: the host was slow lately; the check moves to the queue of hosts that do not answer. turned-away: nobody was asked, because too many questions wait for the hosts of did:webs, or because of slow or silent hosts of the same owner, or of other owners that are slow too; due again within 15 s, or within 13 min if these stay silent. unknown: nobody answered; asked again.',
      labels: { outcome: OUTCOMES },
    })
    const { db, log, identities } = options
    const { retryMs, pollMs, shard } = this.#options
    this.#identities = {
      resolve: (did) => identities.resolve(did),
      async refresh(did, watch) {
        // `refresh` answers from the cache when the DID was asked about within the last minute. For an account of
        // another shard that cache is not purged by its events, and may name a host that the account has left since.
        if (!isInShard(did, shard)) await identities.purge(did)
        return await identities.refresh(did, watch)
      },
    }
    this.#unanswered = new Unanswered({
      fail: (claim, dueAt) => failAccountCheck(db, claim, dueAt),
      giveBack: (claim, dueAt) => giveBackAccountCheck(db, claim, dueAt),
      count: (outcome) => this.#outcomes.inc(1, { outcome }),
      log,
      retryMs,
      pollMs,
    })
    options.metrics.gauge({
      name: 'sluice_account_check_overdue_seconds',
      help: 'For how long the check of an account that waits longest has been due. new rising: more checks are due than can be made, see accounts-behind in DATAPLANE_DEBUG.md. failing rising: hosts do not answer, or are slow.',
      labels: { queue: ACCOUNT_QUEUES },
      collect: async (gauge) => {
        const overdue = await overdueAccountChecks(options.db, new Date())
        for (const queue of ACCOUNT_QUEUES) gauge.set(overdue[queue], { queue })
      },
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    const { db, pollMs, claimMs } = this.#options
    await runWorkers(
      {
        workers: WORKERS,
        pollMs,
        claimMs,
        claim: (wanted) => claimAccountChecks(db, wanted),
        work: (claim, queue, ends) => this.#work(claim, queue, ends),
      },
      signal,
    )
  }

  async #work(claim: AccountClaim, queue: AccountQueue, signal: AbortSignal): Promise<void> {
    const askedAtMs = Date.now()
    let said: Answer
    try {
      said = await this.#ask(claim.did, { pace: this.#options.pace, inHaste: queue === 'new', signal })
    } catch (error) {
      return await this.#unanswered.end(claim, claim.tries - 1, error, signal)
    }
    try {
      const outcome = await endAccountCheck(this.#options.db, claim, said, askedAtMs)
      this.#outcomes.inc(1, { outcome })
    } catch (error) {
      // The answer comes from a host that anybody may run. If the index refuses its contents, that counts as no answer;
      // it must not end this process.
      if (!(error instanceof RefusedError)) throw error
      await this.#unanswered.askAgain(claim, claim.tries - 1, error)
    }
  }

  /** @throws TransientError when there is no usable answer */
  async #ask(did: string, asking: Asking): Promise<Answer> {
    const found = await askHostingStatus({ xrpc: this.#options.xrpc, identities: this.#identities }, did, asking)
    switch (found.kind) {
      case 'hosted':
        return { active: found.active, ...(found.status !== undefined && { status: found.status }) }
      case 'gone':
        return { active: false, status: DELETED }
      case 'status-unknown':
        throw new TransientError(`${did}: its host does not say how it stands`)
      case 'no-host':
        // The answer `gone` would purge the account, though perhaps nobody has said that it was deleted. Only its host
        // or a tombstone may say so.
        throw new TransientError(`${did} has no host that could be asked`)
    }
  }
}
