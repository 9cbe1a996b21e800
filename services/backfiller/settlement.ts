/**
 * What follows when a step of a claim's way fails: the claim is judged, and given back for a later try or as a dead letter, or passed over.
 *
 * Only a FatalError concerns all, and a claim that cannot be given back: Redis refuses us, or we are wrong about something.
 */
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import { DEFAULT_BACKOFF, retry } from '@sluice/runtime/backoff.ts'
import { describeError, FatalError, isAbort, TransientError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { BackfillContext } from './backfill-repo.ts'
import type { Claim } from './claims.ts'
import type { CrashSuspects } from './crash-suspects.ts'
import { failureOf, judge, type DeadReason, type RetryLimits } from './failures.ts'
import { forgetMadeUp, isPassedOver, mayBeMadeUp } from './hearsay.ts'
import type { Progress } from './progress.ts'

/** Of those that may wait in Redis, as many at most may be accounts that a host has made up. What does not come to an end would fill it, and then the stream is read at the pace of the slowest. */
const MADE_UP_PART = 1 / 2
/** Between two of one owner. A silent host holds a place for 5 s, and two of them are asked at once. */
const CROWDED_INTERVAL_MS = 500

export interface SettlementOptions extends RetryLimits {
  context: Pick<BackfillContext, 'redis' | 'producer'>
  suspects: CrashSuspects
  progress: Progress
  log: Logger
}

export class Settlement {
  readonly #options: SettlementOptions
  readonly #signal: AbortSignal
  readonly #failed = Promise.withResolvers<never>()
  /** As many as the streams may have out, at most. */
  readonly #burials = new Set<Promise<void>>()

  /** @param signal ends what is under way; what is not settled by then stays pending */
  constructor(options: SettlementOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
    this.#failed.promise.catch(() => undefined)
  }

  /** Rejects with the first error that concerns all. */
  get failed(): Promise<never> {
    return this.#failed.promise
  }

  fail(error: unknown): void {
    if (!this.#signal.aborted) this.#failed.reject(error)
  }

  /** Runs a step of a claim's way; a failure is judged, and settled. Never rejects. */
  async guard(claim: Claim, step: () => Promise<void>): Promise<void> {
    try {
      try {
        await step()
      } catch (error) {
        await this.#judge(claim, error)
      }
    } catch (error) {
      // It could not be settled: it stays pending, and is found again.
      this.fail(error)
    }
  }

  /** Gives a claim up, beside the work: where the dead letters are full that waits for an operator, and no place and no memory may wait with it. */
  bury(claim: Claim, reason: DeadReason, detail: string, attempts: number): void {
    const burial = this.#bury(claim, reason, detail, attempts)
      .catch((error: unknown) => this.fail(error))
      .finally(() => this.#burials.delete(burial))
    this.#burials.add(burial)
  }

  /** Passes over an account that does not exist. @throws FatalError; an AbortError */
  async passOver(claim: Claim): Promise<void> {
    await this.#forget(claim)
    await this.#passedOver(claim)
  }

  /**
   * Passes over an account that a host may have made up when there is no room for it to wait in Redis: it is asked for again when it is listed again.
   * @returns false when there is, or more is known of it: then nothing has happened
   */
  async passOverForRoom(claim: Claim): Promise<boolean> {
    if (!mayBeMadeUp(claim.entry) || (await claim.hasRoom(MADE_UP_PART))) return false
    if (!(await this.#forget(claim))) return false
    await this.#passedOver(claim)
    return true
  }

  /** Resolves when nothing is being buried any more. */
  async end(): Promise<void> {
    await Promise.all(this.#burials)
  }

  async #judge(claim: Claim, error: unknown): Promise<void> {
    if (isAbort(error) && this.#signal.aborted) return
    if (error instanceof FatalError) throw error
    const failure = failureOf(error)
    const { log, progress } = this.#options
    const { did, host } = claim.entry
    const level = error instanceof TransientError ? 'debug' : failure.class === 'bug' ? 'error' : 'info'
    log[level](
      { did, host, class: failure.class, ...(failure.class === 'bug' && { err: error }) },
      describeError(error),
    )
    const verdict = judge(claim.entry, failure, this.#options)
    if (isPassedOver(claim.entry, failure.class, verdict) && (await this.#forget(claim))) return this.#passedOver(claim)
    if (verdict.act === 'bury') return this.bury(claim, verdict.reason, verdict.detail, verdict.attempts)
    if (await this.passOverForRoom(claim)) return
    if (failure.class !== 'crowded' || !(await this.#deferCrowded(claim, verdict.delayMs)))
      await claim.retry(verdict.entry, verdict.delayMs)
    progress.retries.inc(1, { class: failure.class })
    progress.outcome('retry')
  }

  /** False when more is known of the account than that it was listed. Waits while Redis is away. */
  async #forget({ entry }: Claim): Promise<boolean> {
    const { context, log } = this.#options
    const forget = () => forgetMadeUp(context, entry.did, this.#signal)
    return await retry(this.#signal, DEFAULT_BACKOFF, forget, ({ delayMs, error }) =>
      logRetry(log, delayMs, 'forgetting an account', error),
    )
  }

  async #passedOver(claim: Claim): Promise<void> {
    const { progress, suspects } = this.#options
    await claim.done()
    progress.outcome('no-account')
    await suspects.forget(claim)
  }

  /**
   * Those of one owner that are turned away come back one after the other, as they find places: a host may list any number of did:webs below its domain, and all at once, every
   * few seconds, they would keep the queue from moving. @returns false when too much is put off already, and of other DIDs
   */
  async #deferCrowded(claim: Claim, delayMs: number): Promise<boolean> {
    const [, web] = /^did:web:(.*)$/s.exec(claim.entry.did) ?? []
    if (web === undefined) return false
    // Forgotten with its last turn: any number of domains can be made up, too.
    const turn = { delayMs, intervalMs: CROWDED_INTERVAL_MS, keptMs: 0 }
    return await claim.defer({ ...turn, host: `did:web:${ownerOf(web.replace(/%3a/i, ':'))}` })
  }

  async #bury(claim: Claim, reason: DeadReason, detail: string, attempts: number): Promise<void> {
    const { log, progress, suspects } = this.#options
    await claim.bury(reason, detail, attempts)
    log.warn({ did: claim.entry.did, reason, attempts }, `a repository is given up: ${detail}`)
    progress.dead.inc(1, { reason })
    progress.outcome('dead')
    await suspects.forget(claim)
  }
}
