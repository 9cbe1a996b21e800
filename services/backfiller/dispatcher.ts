/**
 * The path of a claim through the process: which account, on which host, when the host has a turn, and what follows
 * from the outcome.
 *
 *     claim → identity → its host's queue → backfillRepo → done | again later | put off | given up
 *
 * Whatever happens to one repository is dealt with here, and never stops the others. Only a FatalError gets out: Redis
 * refuses our commands, or we are wrong about something that concerns all repositories.
 */
import { NoRoomError } from '@sluice/atproto/slabs.ts'
import { RateLimitedError } from '@sluice/atproto/xrpc.ts'
import type { Identity } from '@sluice/atproto/identity.ts'
import { SEQ_BACKFILL } from '@sluice/events/stream-event.ts'
import { Budget } from '@sluice/runtime/budget.ts'
import { FatalError, isAbort } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import { markInactive } from '@sluice/streams/chain-state.ts'
import { identityOf, repoOrigin, resolvePatiently } from './account.ts'
import { backfillRepo, movedFrom, type BackfillContext, type Outcome } from './backfill-repo.ts'
import { HELD_ENTRIES, type Claim } from './claims.ts'
import { Consequences } from './consequences.ts'
import { DEATHS_MAX, type CrashSuspects } from './crash-suspects.ts'
import { LIMITED_MS, type RetryLimits } from './failures.ts'
import { isUnconfirmed, mayBeMadeUp, mayKeepStatus } from './unconfirmed.ts'
import type { HostTally } from './host-tally.ts'
import { HostQueues } from './host-queues.ts'
import type { LetterShares } from './letter-shares.ts'
import { STRANGER_KEPT_MS, type Asked, type Permit } from './pds-limits.ts'
import type { Progress } from './progress.ts'
import type { RepoMemories, RepoMemory } from './repo-memory.ts'

export interface DispatcherOptions extends RetryLimits {
  context: BackfillContext
  memories: RepoMemories
  suspects: CrashSuspects
  shares: LetterShares
  tally: HostTally
  progress: Progress
  log: Logger
  /** Role and consumer of this process, for incidents. */
  role: string
  concurrency: number
  skipHosts: readonly string[]
  fetchFrom: 'pds' | 'listed'
  /** Hosts that are listed without a scheme are asked by plain http: for test networks. */
  plainHttp: boolean
  /** Whether work on another repository may begin now. */
  mayBegin: () => boolean
}

/** A claim, the identity of its account, and the origin to ask. */
interface Placed {
  claim: Claim
  identity: Identity
  url: string
}

const NEVER = new AbortController().signal
/** How many identities are looked up at the same time: the places for identities. */
const RESOLVING = 64
/**
 * A claim that has to wait longer than this for its host is put off into the schedule, whatever the reason for the
 * wait. Waits for Redis itself are shorter.
 */
const PUT_OFF_MS = 10_000
/** After a failure the identity is refreshed only if the claim has moved to another host less often than this. */
const MOVES_MAX = 2

export class Dispatcher {
  readonly #options: DispatcherOptions
  readonly #queues: HostQueues<Placed, RepoMemory>
  readonly #consequences: Consequences
  readonly #resolving = new Budget(RESOLVING)
  readonly #signal: AbortSignal
  readonly #moves = new WeakMap<Claim, number>()
  readonly #skipped: ReadonlySet<string>
  #closed: Promise<void> | undefined

  /** @param signal ends the work that is under way. Entries that are not given back by then stay pending */
  constructor(options: DispatcherOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
    this.#consequences = new Consequences(options, signal)
    this.#skipped = new Set(options.skipHosts.map((host) => host.toLowerCase()))
    const { context, concurrency, memories, mayBegin, progress } = options
    this.#queues = new HostQueues({
      limits: { limitsOf: (host) => context.limits.limitsOf(host), ask: (host) => this.#ask(host) },
      concurrency,
      heldMax: HELD_ENTRIES,
      reserve: () => (mayBegin() ? memories.tryOpen() : undefined),
      work: (placed, permit, memory) => this.#visit(placed, permit, memory),
      onWait: (host, why, waitMs) => {
        progress.hostWaits.inc(1, { why })
        // While Redis is away, claims cannot be put off: the schedule is in Redis.
        if (waitMs > PUT_OFF_MS || (this.#queues.isCrowded && why !== 'redis')) this.#putOffAll(host, waitMs)
      },
    })
  }

  /** Rejects with the first error that concerns all repositories. Never resolves. */
  get failed(): Promise<never> {
    return this.#consequences.failed
  }

  get running(): number {
    return this.#queues.running
  }

  get waiting(): number {
    return this.#queues.waiting
  }

  get hosts(): number {
    return this.#queues.hosts
  }

  /** To be called when something that `mayBegin` depends on has changed. */
  wake(): void {
    this.#queues.wake()
  }

  /** Takes a claim in. Resolves when there is room for another claim. Never rejects because of this claim. */
  async take(claim: Claim): Promise<void> {
    const { suspects } = this.#options
    const deaths = await suspects.deathsOf(claim)
    if (deaths === 0) return this.#letIn(claim)
    if (deaths >= DEATHS_MAX) {
      const detail = `it was under way at ${deaths} deaths of a process`
      return this.#consequences.bury(claim, { reason: 'crash-loop', detail, attempts: deaths })
    }
    void suspects.alone(claim, () => this.#letIn(claim), this.#signal)
  }

  /** Resolves when the lookup of the claim's identity has begun. */
  async #letIn(claim: Claim): Promise<void> {
    try {
      await this.#resolving.acquire(1, this.#signal)
    } catch {
      return // the process stops, and the entry stays pending
    }
    void this.#consequences.guard(claim, () => this.#place(claim)).finally(() => this.#resolving.release(1))
  }

  /** Resolves when no work is under way any more. To be called only after the signal. */
  close(): Promise<void> {
    this.#closed ??= this.#toEnd()
    return this.#closed
  }

  async #toEnd(): Promise<void> {
    await Promise.all([this.#queues.close(), this.#resolving.acquire(RESOLVING, NEVER)])
    await this.#consequences.end()
  }

  /** As `limits.ask`, but never rejects, as `HostQueues` requires: an error is reported by `failed`. */
  async #ask(host: string): Promise<Asked> {
    try {
      return await this.#options.context.limits.ask(host)
    } catch (error) {
      this.#consequences.fail(error)
      return { why: 'redis', waitMs: PUT_OFF_MS }
    }
  }

  async #place(claim: Claim): Promise<void> {
    const { did } = claim.entry
    const { context, log } = this.#options
    const whose = { did, urgent: claim.urgent }
    const resolution = await resolvePatiently(context.identities, whose, this.#signal, ({ delayMs, error }) =>
      logRetry(log, delayMs, 'looking up an identity failed', error),
    )
    if (resolution.status === 'tombstoned') {
      if (!(await mayKeepStatus(context, claim.entry))) return this.#consequences.passOver(claim)
      const time = new Date().toISOString()
      const event = { type: 'account', seq: SEQ_BACKFILL, time, did, active: false, status: 'deleted' } as const
      await context.producer.append([event], this.#signal, { also: [markInactive(did)] })
      return this.#conclude(claim, { kind: 'account', status: 'deleted' })
    }
    // Passed over instead of given up: one host can list any number of DIDs that do not exist. As dead letters they
    // would fill the room for all, which stops the queue. If the account comes to exist, a sweep finds it.
    if (resolution.status === 'missing' && isUnconfirmed(claim.entry)) return this.#consequences.passOver(claim)
    const identity = identityOf(did, resolution)
    await this.#enqueue({ claim, identity, url: repoOrigin(claim.entry, identity, this.#options) }, false)
  }

  /**
   * Adds a claim to the queue of its host (`front`: as the next one). A claim that may not wait here is put off into
   * the schedule, so that claims of other hosts get in. When the schedule is full, the claim waits here after all.
   */
  async #enqueue(placed: Placed, front: boolean): Promise<void> {
    const { claim } = placed
    const { host, hostname } = new URL(placed.url)
    if (this.#skipped.has(host) || this.#skipped.has(hostname)) {
      await claim.done()
      this.#options.progress.outcome('skipped')
      return
    }
    const closedMs = this.#queues.closedMs(host)
    const isPutOff = closedMs > PUT_OFF_MS || (!front && !this.#queues.mayWait(host, claim))
    if (isPutOff && (await this.#putOff(claim, host, closedMs))) return
    this.#queues.add(host, placed, { urgent: claim.urgent, front })
  }

  /**
   * Puts a claim off into the schedule, or passes it over when it may not take room there. False when the schedule is
   * full: then this process still holds the claim.
   */
  async #putOff(claim: Claim, host: string, delayMs: number): Promise<boolean> {
    const { context, progress } = this.#options
    if (await this.#consequences.passOverForRoom(claim)) return true
    const turn = { host, delayMs, intervalMs: 1000 / context.limits.limitsOf(host).perSecond }
    // Each made-up account may name another host. So Redis remembers such a host for a shorter time.
    if (!(await claim.defer({ ...turn, ...(mayBeMadeUp(claim.entry) && { keptMs: STRANGER_KEPT_MS }) }))) return false
    progress.outcome('put-off')
    return true
  }

  /**
   * Puts off all claims that wait for a host that may not be asked for long. They wait in Redis and leave their room to
   * claims of other hosts.
   */
  #putOffAll(host: string, delayMs: number): void {
    for (const placed of this.#queues.drain(host)) {
      const { claim } = placed
      void this.#consequences.guard(claim, async () => {
        if (!(await this.#putOff(claim, host, delayMs))) this.#queues.add(host, placed, { urgent: claim.urgent })
      })
    }
  }

  async #visit(placed: Placed, permit: Permit, memory: RepoMemory): Promise<void> {
    using _ = memory
    const { claim } = placed
    const { suspects } = this.#options
    await this.#consequences.guard(
      claim,
      () => suspects.watch(claim, () => this.#work(placed, permit, memory), this.#signal),
      new URL(placed.url).host,
    )
    await permit.release({ verdict: 'nothing' })
  }

  async #work(placed: Placed, permit: Permit, memory: RepoMemory): Promise<void> {
    const { context, tally } = this.#options
    const { claim, identity, url } = placed
    const { entry, urgent } = claim
    const { host } = new URL(url)
    let outcome: Outcome
    try {
      outcome = await backfillRepo(context, { entry, identity, url, permit, memory, urgent }, this.#signal)
      if (outcome.kind === 'exported' || (outcome.kind === 'account' && !mayBeMadeUp(entry))) tally.count(host, 'done')
    } catch (error) {
      if (isAbort(error) || error instanceof FatalError) throw error
      if (error instanceof RateLimitedError && (await context.limits.limitedMs(host)) < LIMITED_MS) {
        // The limit concerns the host, not the repository: the claim stays the first of its host.
        return this.#enqueue(placed, true)
      }
      // Made-up accounts are not counted: a host's counts are kept for a month, and each such account may name another
      // host.
      if (!(error instanceof NoRoomError) && !mayBeMadeUp(entry)) tally.count(host, 'failed')
      outcome = await this.#movedMeanwhile(claim, identity, error)
    }
    await this.#conclude(claim, outcome)
  }

  /**
   * After a failure: the outcome `moved` when the account is on another host by now.
   * @throws `error` when the account has not moved, or the directory does not answer
   */
  async #movedMeanwhile(claim: Claim, identity: Identity, error: unknown): Promise<Outcome> {
    if ((this.#moves.get(claim) ?? 0) >= MOVES_MAX) throw error
    const { did, pds: url } = identity
    const moved = await movedFrom(this.#options.context, { did, url, urgent: claim.urgent }).catch(() => undefined)
    if (moved === undefined) throw error
    return moved
  }

  /** Gives a claim back as its outcome asks, or sends it on to the host that the account has moved to. */
  async #conclude(claim: Claim, outcome: Outcome): Promise<void> {
    const { progress } = this.#options
    switch (outcome.kind) {
      case 'moved':
        this.#moves.set(claim, (this.#moves.get(claim) ?? 0) + 1)
        progress.outcome('moved')
        return this.#enqueue({ claim, identity: outcome.identity, url: outcome.url }, true)
      case 'account':
        await claim.done()
        return progress.outcome('account')
      case 'no-account':
        return this.#consequences.passOver(claim)
      case 'exported':
        await claim.done()
        return progress.outcome(outcome.resync ? 'resynced' : 'exported')
      default:
        return outcome satisfies never
    }
  }
}
