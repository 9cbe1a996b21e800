/**
 * What follows when a step of a claim's way through the process fails (`consequenceOf`): the claim is given back for a
 * later try, given up as a dead letter, set aside where its owner has too many of these, or passed over.
 *
 * Two errors concern all repositories: a FatalError (Redis refuses our commands, or we are wrong about something), and
 * a failure to give a claim back.
 */
import { webHostOf } from '@sluice/atproto/did-web.ts'
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import { DEFAULT_BACKOFF, retry } from '@sluice/runtime/backoff.ts'
import { describeError, FatalError, isAbort, TransientError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import { recordIncident } from '@sluice/streams/incidents.ts'
import type { BackfillContext } from './backfill-repo.ts'
import type { Claim } from './claims.ts'
import type { CrashSuspects } from './crash-suspects.ts'
import { consequenceOf, failureOf, type DeadReason, type RetryLimits } from './failures.ts'
import { blamedFor, type LetterShares } from './letter-shares.ts'
import { isPassedOver } from './passed-over.ts'
import type { Progress } from './progress.ts'
import { forgetMadeUp, mayBeMadeUp } from './unconfirmed.ts'

/**
 * Accounts that a host may have made up are put off only while the schedule is less than half full. Any number of them
 * would otherwise fill it, and then the stream is read no faster than the slowest hosts allow.
 */
const MADE_UP_PART = 1 / 2
/**
 * The time between the turns of two did:webs of one owner. A silent host holds a place for 5 s, and two hosts of one
 * owner are asked at once.
 */
const CROWDED_INTERVAL_MS = 500

export interface ConsequencesOptions extends RetryLimits {
  context: Pick<BackfillContext, 'redis' | 'producer'>
  suspects: CrashSuspects
  shares: LetterShares
  progress: Progress
  log: Logger
  /** Role and consumer of this process, for incidents. */
  role: string
}

/** Why a claim is given up. */
export interface Death {
  reason: DeadReason
  detail: string
  attempts: number
  /** The host that was asked for the repository, if one was. */
  host?: string | undefined
}

export class Consequences {
  readonly #options: ConsequencesOptions
  readonly #signal: AbortSignal
  readonly #failed = Promise.withResolvers<never>()
  /** Claims that are being given up. At most as many as the process may hold. */
  readonly #burials = new Set<Promise<void>>()

  /** @param signal ends the work that is under way. Entries that are not given back by then stay pending */
  constructor(options: ConsequencesOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
    this.#failed.promise.catch(() => undefined)
  }

  /** Rejects with the first error that concerns all repositories. Never resolves. */
  get failed(): Promise<never> {
    return this.#failed.promise
  }

  fail(error: unknown): void {
    if (!this.#signal.aborted) this.#failed.reject(error)
  }

  /**
   * Runs a step of a claim's way. When the step fails, carries out what follows from that. Never rejects.
   * @param host the host that the step asks for the repository
   */
  async guard(claim: Claim, step: () => Promise<void>, host?: string): Promise<void> {
    try {
      try {
        await step()
      } catch (error) {
        await this.#follow(claim, error, host)
      }
    } catch (error) {
      // The claim could not be given back. Its entry stays pending, and is delivered again.
      this.fail(error)
    }
  }

  /**
   * Gives a claim up, without making the caller wait. When the dead letters are full this waits for an operator, and no
   * place and no memory may wait with it.
   */
  bury(claim: Claim, death: Death): void {
    const burial = this.#bury(claim, death)
      .catch((error: unknown) => this.fail(error))
      .finally(() => this.#burials.delete(burial))
    this.#burials.add(burial)
  }

  /**
   * Passes over an account that does not exist: forgets it, and acks its entry.
   * @throws FatalError; an AbortError
   */
  async passOver(claim: Claim): Promise<void> {
    await this.#forget(claim)
    await this.#passedOver(claim)
  }

  /**
   * Passes over an account that a host may have made up, when it finds no room in the schedule (`MADE_UP_PART`). The
   * account is asked for again when it is listed again.
   * @returns false for any other account, when there is room, or when more is known of the account. Then nothing has
   * happened
   */
  async passOverForRoom(claim: Claim): Promise<boolean> {
    if (!mayBeMadeUp(claim.entry) || (await claim.hasRoom(MADE_UP_PART))) return false
    if (!(await this.#forget(claim))) return false
    await this.#passedOver(claim)
    return true
  }

  /** Resolves when no claim is being given up any more. */
  async end(): Promise<void> {
    await Promise.all(this.#burials)
  }

  async #follow(claim: Claim, error: unknown, host?: string): Promise<void> {
    if (isAbort(error) && this.#signal.aborted) return
    if (error instanceof FatalError) throw error
    const failure = failureOf(error)
    const { log, progress } = this.#options
    const { did, host: listedAt } = claim.entry
    const level = error instanceof TransientError ? 'debug' : failure.class === 'bug' ? 'error' : 'info'
    log[level](
      { did, host: host ?? listedAt, class: failure.class, ...(failure.class === 'bug' && { err: error }) },
      describeError(error),
    )
    const consequence = consequenceOf(claim.entry, failure, this.#options)
    if (isPassedOver(claim.entry, failure.class, consequence) && (await this.#forget(claim)))
      return this.#passedOver(claim)
    if (consequence.act === 'bury') return this.bury(claim, { ...consequence, host })
    if (await this.passOverForRoom(claim)) return
    if (failure.class !== 'crowded' || !(await this.#deferCrowded(claim, consequence.delayMs)))
      await claim.retry(consequence.entry, consequence.delayMs)
    progress.retries.inc(1, { class: failure.class })
    progress.outcome('retry')
  }

  /**
   * Forgets the account of a claim. False when more is known of the account than that it was listed. Waits while Redis
   * is away.
   */
  async #forget({ entry }: Claim): Promise<boolean> {
    const { context, log } = this.#options
    const forget = () => forgetMadeUp(context, entry.did, this.#signal)
    return await retry(this.#signal, DEFAULT_BACKOFF, forget, ({ delayMs, error }) =>
      logRetry(log, delayMs, 'forgetting an account failed', error),
    )
  }

  async #passedOver(claim: Claim): Promise<void> {
    const { progress, suspects } = this.#options
    await claim.done()
    progress.outcome('no-account')
    await suspects.forget(claim)
  }

  /**
   * Puts off a did:web whose lookup was turned away. The did:webs of one owner come back one after the other, at the
   * pace at which they find places. A host may list any number of did:webs below its domain. If all of them came back
   * at once, every few seconds, they would keep the queue from moving.
   * @returns false for another kind of DID, or when the schedule is full and has no entry of this account
   */
  async #deferCrowded(claim: Claim, delayMs: number): Promise<boolean> {
    const web = webHostOf(claim.entry.did)
    if (web === undefined) return false
    // Redis forgets the owner with its last turn: any number of domains can be made up, too.
    const turn = { delayMs, intervalMs: CROWDED_INTERVAL_MS, keptMs: 0 }
    return await claim.defer({ ...turn, host: `did:web:${ownerOf(web)}` })
  }

  async #bury(claim: Claim, { reason, detail, attempts, host }: Death): Promise<void> {
    const { log, progress, suspects, shares } = this.#options
    const { entry, stream } = claim
    const blamed = blamedFor(entry, host)
    const ask = () => shares.ask(stream, entry.did, blamed, reason)
    const setAside = await retry(this.#signal, DEFAULT_BACKOFF, ask, ({ delayMs, error }) =>
      logRetry(log, delayMs, 'asking for room for a dead letter failed', error),
    )
    if (setAside === 0) {
      await claim.bury(reason, detail, attempts)
      log.warn(
        { did: entry.did, reason, attempts },
        `a repository is given up, and kept as a dead letter (\`sluice dlq list\`): ${detail}`,
      )
      progress.dead.inc(1, { reason })
      progress.outcome('dead')
    } else {
      await claim.done()
      const level = setAside === 1 ? 'warn' : 'info'
      log[level]({ did: entry.did, host: blamed.host, reason, setAside }, `a repository is set aside: ${detail}`)
      progress.outcome('set-aside')
      if (setAside === 1) await this.#tellSetAside(blamed.host, reason)
    }
    await suspects.forget(claim)
  }

  async #tellSetAside(host: string, reason: DeadReason): Promise<void> {
    const { context, log, role, progress } = this.#options
    const incident = {
      kind: 'dead-letters' as const,
      role,
      what: `so many repositories of ${host} and hosts of the same owner were given up that further ones get no dead letter (${reason})`,
      action: `\`sluice backfill status\` counts them; when the host is mended, \`sluice backfill host ${host}\` requests them again`,
    }
    // The count tells the same, so a lost incident is no reason to try this again.
    await recordIncident(context.redis, incident, progress.incident).catch((error: unknown) =>
      log.warn({ error: describeError(error) }, 'an incident was not recorded'),
    )
  }
}
