/**
 * Verifies accounts of a running index one by one: fetches the repository and compares it as `sluice verify <did>`
 * does. What is found is wrong, and not only late: what differs is looked at again when the events up to the
 * repository's rev must be in the index, and counts if it differs then as well, and its host still has the account.
 *
 * An account that cannot be checked is none that is wrong. A host is asked for one repository at a time (the caller
 * sees to that), and is left alone for the rest of the run when it asks for a pause or has failed twice in a row.
 */
import type { RepoExport } from '@sluice/atproto/repo-export.ts'
import { RateLimitedError } from '@sluice/atproto/xrpc.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { CannotError } from './cli.ts'
import { mendRepo } from './mend-repo.ts'
import type { Account, Network } from './network.ts'
import type { Session } from './session.ts'
import type { Standings } from './standing.ts'
import { compareRepo, type Comparison } from './verify-repo.ts'

export interface AuditOptions {
  session: Session
  network: Network
  standings: Pick<Standings, 'of'>
  collections: CollectionSet
  repair: boolean
}

export interface Checked {
  pds: string
  comparison: Comparison
}

export interface NotChecked {
  did: string
  /**
   * `host-away`, `rate-limited`, `identity`, `identity-away`, `under-way`, `to-be-fetched`; else what the host says of
   * the account, or why its export is refused.
   */
  reason: string
  detail: string
}

const FAILURES_MAX = 2

/** Verifies accounts, and remembers between them how their hosts answer. */
export class Audit {
  readonly #options: AuditOptions
  /** Failures in a row of a host; Infinity: it asked for a pause. */
  readonly #failures = new Map<string, number>()

  constructor(options: AuditOptions) {
    this.#options = options
  }

  /** @throws TransientError, FatalError of our own stores; AbortError */
  async account(did: string): Promise<Account | NotChecked> {
    return orReason(did, { away: 'identity-away' }, this.#options.network.account(did))
  }

  /** @throws TransientError, FatalError of our own stores; AbortError */
  async check(account: Account): Promise<Checked | NotChecked> {
    const { did, pds } = account
    const fetched = await this.#ask(account, (network) => network.repo(account))
    if ('reason' in fetched) return fetched
    using repo = fetched
    const time = new Date().toISOString()
    const first = await this.#compare(repo, time)
    if (first.differing.length === 0) return { pds, comparison: first }
    const { standings, session, repair } = this.#options
    const standing = await standings.of(repo, session.signal)
    if (standing !== 'indexed') return { did, reason: standing, detail: `at ${repo.rev}` }
    // It may have been deactivated or deleted meanwhile.
    const head = await this.#ask(account, (network) => network.head(pds, did))
    if ('reason' in head) return head
    const comparison = inBoth(first, await this.#compare(repo, time))
    if (repair && comparison.differing.length > 0) await mendRepo(session, repo, comparison, { time })
    return { pds, comparison }
  }

  async #compare(repo: RepoExport, time: string): Promise<Comparison> {
    const { session, collections } = this.#options
    return compareRepo(await session.db(), collections, repo, { time })
  }

  async #ask<T extends object>(
    { did, pds }: Account,
    request: (network: Network) => Promise<T>,
  ): Promise<T | NotChecked> {
    const failures = this.#failures.get(pds) ?? 0
    if (failures >= FAILURES_MAX) {
      if (failures === Infinity) return { did, reason: 'rate-limited', detail: `${pds} asked for a pause before` }
      return { did, reason: 'host-away', detail: `${pds} failed before` }
    }
    const answer = await orReason(did, { away: 'host-away' }, request(this.#options.network))
    const reason = 'reason' in answer ? answer.reason : ''
    if (reason === 'rate-limited') this.#failures.set(pds, Infinity)
    else this.#failures.set(pds, reason === 'host-away' ? failures + 1 : 0)
    return answer
  }
}

/** The answer of the network, or why there is none. */
async function orReason<T extends object>(
  did: string,
  { away }: { away: string },
  answer: Promise<T>,
): Promise<T | NotChecked> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof RateLimitedError) return { did, reason: 'rate-limited', detail: error.message }
    if (error instanceof TransientError) return { did, reason: away, detail: error.message }
    if (error instanceof RefusedError) return { did, reason: error.reason, detail: error.message }
    if (error instanceof CannotError) return { did, reason: 'identity', detail: error.message }
    throw error
  }
}

/**
 * The later comparison, with those of its differences that were there before as well: what came in between the two was
 * under way.
 */
function inBoth(first: Comparison, again: Comparison): Comparison {
  const before = new Set(first.differing.map(({ uri, difference }) => `${difference} ${uri}`))
  return { ...again, differing: again.differing.filter(({ uri, difference }) => before.has(`${difference} ${uri}`)) }
}
