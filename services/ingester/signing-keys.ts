/**
 * The keys that accounts sign with: from a small cache in this process, else from the cache that all daemons share,
 * else from the directory.
 *
 * An account that cannot be resolved is waited for and tried again, since nothing may be dropped because a directory is
 * down. There is one exception, so that a single dead account does not hold up everything behind it: when a DID fails
 * for `giveUpMs` while its directory answers for others, it is unavailable, and the caller requests a resync instead. A
 * did:web is its own directory, and has `giveUpMs` in all. A web page, whatever its status, is no answer of a
 * directory: a wrong PLC_URL holds up the cursor, and no account is given up for it.
 */
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import type { HttpClient } from '@sluice/atproto/http.ts'
import { tolerant, type IdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { Resolution } from '@sluice/atproto/identity.ts'
import { isDid } from '@sluice/atproto/syntax.ts'
import { CrowdedError } from '@sluice/atproto/throttle.ts'
import { Backoff, retry, retryAfterMs, sleep, type BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { remember } from '@sluice/runtime/remember.ts'

export interface SigningKeysOptions {
  plcUrl: string
  http: Pick<HttpClient, 'get'>
  cache: IdentityCache
  /** How many accounts are remembered here; about 200 bytes each. */
  remembered?: number
  giveUpMs?: number
  backoff?: BackoffPolicy
  now?: () => number
  onWait?: (error: TransientError) => void
}

/** The parts of an identity that are needed here. */
export interface Account {
  /** Undefined when the account has none, or does not exist. */
  key: string | undefined
  pds: string | undefined
  /** Set when the account declares itself a labeler. */
  labeler: { endpoint: string; signingKey?: string } | undefined
}

/** The DID cannot be resolved at present, while others can. */
export class IdentityUnavailableError extends Error {
  override name = 'IdentityUnavailableError'
}

const DEFAULTS = {
  remembered: 100_000,
  giveUpMs: 60_000,
  backoff: { baseMs: 250, capMs: 10_000, healthyAfterMs: 1_000 },
  now: Date.now,
  onWait: () => {},
}
const FOUND_MS = 3_600_000
const NEGATIVE_MS = 120_000
const PURGE_BACKOFF: BackoffPolicy = { baseMs: 100, capMs: 5_000, healthyAfterMs: 1_000 }

interface Remembered {
  account: Account
  untilMs: number
}

export class SigningKeys {
  readonly #options: Required<SigningKeysOptions>
  readonly #resolver: IdentityResolver
  /** Oldest first; one that is used moves to the end. */
  readonly #accounts = new Map<string, Remembered>()
  readonly #unavailable = new Map<string, number>()

  constructor(options: SigningKeysOptions) {
    this.#options = { ...DEFAULTS, ...options }
    const { plcUrl, http, cache, now } = this.#options
    this.#resolver = new IdentityResolver({ plcUrl, http, cache: tolerant(cache), now })
  }

  /** The account as it is remembered here; undefined when it must be resolved. */
  peek(did: string): Account | undefined {
    const found = this.#accounts.get(did)
    if (found === undefined || found.untilMs < this.#options.now()) return undefined
    remember(this.#accounts, did, found, this.#options.remembered)
    return found.account
  }

  /**
   * The account, as soon as it can be resolved.
   * @param watch told of each request to its directory or host
   * @throws IdentityUnavailableError; AbortError on the signal
   */
  async resolve(did: string, signal: AbortSignal, watch?: AskingWatch): Promise<Account> {
    return this.peek(did) ?? this.#patiently(did, signal, () => this.#resolver.resolve(did, watch))
  }

  /**
   * The account as its directory has it now, after a signature that did not match. The directory is asked at most once
   * a minute for each account.
   * @throws IdentityUnavailableError; AbortError on the signal
   */
  async refresh(did: string, signal: AbortSignal): Promise<Account> {
    return this.#patiently(did, signal, async () => (await this.#resolver.refresh(did)).resolution)
  }

  /**
   * Forgets the account here and in the shared cache; resolves when that is done.
   * @throws AbortError on the signal
   */
  async purge(did: string, signal: AbortSignal): Promise<void> {
    this.#accounts.delete(did)
    this.#unavailable.delete(did)
    await retry(
      signal,
      PURGE_BACKOFF,
      () => this.#resolver.purge(did),
      ({ error }) => this.#options.onWait(error),
    )
  }

  async #patiently(did: string, signal: AbortSignal, ask: () => Promise<Resolution>): Promise<Account> {
    if ((this.#unavailable.get(did) ?? 0) > this.#options.now()) throw new IdentityUnavailableError(did)
    const isWeb = did.startsWith('did:web:')
    try {
      return await (isWeb ? this.#inTime(did, signal, ask) : this.#untilAnswered(did, signal, ask))
    } catch (error) {
      if (error instanceof IdentityUnavailableError) this.#giveUp(did)
      throw error
    }
  }

  /**
   * For a did:web. Its time runs also while it waits in our queue, which other slow hosts may fill, and while its host
   * asks us to wait.
   */
  async #inTime(did: string, signal: AbortSignal, ask: () => Promise<Resolution>): Promise<Account> {
    const { giveUpMs } = this.#options
    const over = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => over.reject(new IdentityUnavailableError(`${did}: no answer within ${giveUpMs} ms`)),
      giveUpMs,
    )
    const stop = new AbortController()
    try {
      const answer = this.#untilAnswered(did, AbortSignal.any([signal, stop.signal]), ask)
      return await Promise.race([answer, over.promise])
    } finally {
      clearTimeout(timer)
      stop.abort()
    }
  }

  async #untilAnswered(did: string, signal: AbortSignal, ask: () => Promise<Resolution>): Promise<Account> {
    const { backoff: policy, giveUpMs, now, onWait } = this.#options
    const backoff = new Backoff(policy)
    // Counted from the first request that failed. Before that, our own queue may have taken minutes, for example after
    // a start with an empty cache.
    let failing: { since: number; plcAnswers: number } | undefined
    for (;;) {
      signal.throwIfAborted()
      try {
        return this.#remember(did, await ask())
      } catch (error) {
        if (!(error instanceof TransientError)) throw error
        const { plcAnswers } = this.#resolver
        if (!(error instanceof CrowdedError)) failing ??= { since: now(), plcAnswers }
        if (failing && now() - failing.since >= giveUpMs && plcAnswers > failing.plcAnswers)
          throw new IdentityUnavailableError(error.message, { cause: error })
        onWait(error)
        await sleep(backoff.nextMs() + retryAfterMs(error), signal)
      }
    }
  }

  #remember(did: string, resolution: Resolution): Account {
    const { remembered, now } = this.#options
    const identity = resolution.status === 'found' ? resolution.identity : undefined
    const account = { key: identity?.signingKey, pds: identity?.pds, labeler: identity?.labeler }
    // The text of a stranger may have megabytes, so it is not remembered.
    if (!isDid(did)) return account
    remember(this.#accounts, did, { account, untilMs: now() + (identity ? FOUND_MS : NEGATIVE_MS) }, remembered)
    return account
  }

  /** Gives the account up for a while: its next frames do not wait at all. */
  #giveUp(did: string): void {
    const { remembered, giveUpMs, now } = this.#options
    remember(this.#unavailable, did, now() + 5 * giveUpMs, remembered)
  }
}
