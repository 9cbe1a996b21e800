/**
 * Asks an account's own host whether the account is active, when what we hold and what we see differ. Either the
 * account commits although it is said to be inactive (the news of a host that it has left came late, or an event was
 * lost), or it is listed with another status. If the host disagrees with what we hold, its answer goes to the stream as
 * an account event, dated just before the question, and changes the chain record as a relay's event does.
 *
 * Runs beside the data path and delays nothing. Each account is asked about at most once in a while, and each host one
 * question at a time. Hosts that never answer have places of their own (`host-places.ts`): hundreds of accounts at such
 * hosts would otherwise hold up all others.
 *
 * The host of a did:web is asked for its document, and then for the status if the document names the same host. Whether
 * the host is quick is decided by the second answer only. Only the host's own time counts: not the wait behind other
 * did:webs, and not the time that we take to store the answer.
 */
import { webHostOf } from '@sluice/atproto/did-web.ts'
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import { CrowdedError } from '@sluice/atproto/throttle.ts'
import type { RepoStatus, XrpcClient } from '@sluice/atproto/xrpc.ts'
import { backfillEventCodec, streamEventCodec } from '@sluice/events/codec.ts'
import { SEQ_BACKFILL, type AccountEvent } from '@sluice/events/stream-event.ts'
import { sleep } from '@sluice/runtime/backoff.ts'
import { isAbort, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { KeyedQueue } from '@sluice/runtime/keyed-queue.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import { remember } from '@sluice/runtime/remember.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { moveChain, readChains } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { StateConflictError, type Producer, type Step } from '@sluice/streams/producer.ts'
import { decide, type Finding } from './decide.ts'
import { HostPlaces, type Question } from './host-places.ts'
import { IdentityUnavailableError, type Account, type SigningKeys } from './signing-keys.ts'

export interface AccountCheckOptions {
  redis: Redis
  producer: Producer<string>
  repoStream: string
  xrpc: Pick<XrpcClient, 'getRepoStatus'>
  keys: SigningKeys
  log: Logger
  onAnswer: (answer: AccountAnswer) => void
  everyMs?: number
}

/** What an answer said; a metric label. */
export const ACCOUNT_ANSWERS = ['as-held', 'differs', 'no-answer'] as const
export type AccountAnswer = (typeof ACCOUNT_ANSWERS)[number]

/** What a host says of an account, and when it was asked (ISO 8601). */
interface Answer {
  did: string
  host: string
  time: string
  status: RepoStatus
}

const EVERY_MS = 3_600_000
/** How many accounts the directory is asked for at once. */
const CONCURRENCY = 8
const WAITING = 10_000
const ANSWER_MS = 10_000
/** How long a did:web may wait before its host is asked. While it waits it holds a place that others need. */
const TURN_MS = 3_000
/** The answer is one short line. */
const LIMITS = { headersMs: ANSWER_MS, totalMs: ANSWER_MS, bytes: 64 * 1024 }
const REMEMBERED = 100_000

export class AccountCheck implements Service {
  readonly name = 'accounts'
  readonly #options: Required<AccountCheckOptions>
  /** When each account was last asked about, oldest first. */
  readonly #asked = new Map<string, number>()
  #waiting = new Set<string>()
  #fault: { error: unknown } | undefined
  readonly #resolving = new KeyedQueue({ concurrency: CONCURRENCY, capacity: 2 * CONCURRENCY })
  readonly #places = new HostPlaces()
  #wake: (() => void) | undefined

  constructor(options: AccountCheckOptions) {
    this.#options = { everyMs: EVERY_MS, ...options }
  }

  /** Asks about these accounts. Accounts that find no room are left for the next time that they are suspected. */
  suspect(dids: readonly string[]): void {
    const now = performance.now()
    for (const did of dids) {
      if (this.#waiting.size >= WAITING) break
      if (now - (this.#asked.get(did) ?? -Infinity) >= this.#options.everyMs) this.#waiting.add(did)
    }
    this.#wake?.()
  }

  async run(signal: AbortSignal): Promise<void> {
    const onAbort = (): void => this.#wake?.()
    signal.addEventListener('abort', onAbort)
    try {
      while (!signal.aborted) {
        const waiting = this.#waiting
        this.#waiting = new Set()
        for (const did of waiting) {
          remember(this.#asked, did, performance.now(), REMEMBERED)
          await this.#check(did, signal)
        }
        if (this.#fault) throw this.#fault.error
        if (this.#waiting.size > 0 || signal.aborted) continue
        await new Promise<void>((resolve) => (this.#wake = resolve))
        this.#wake = undefined
      }
    } catch (error) {
      if (!isAbort(error) || !signal.aborted) throw error
    } finally {
      signal.removeEventListener('abort', onAbort)
      await this.#resolving.drained()
      await this.#places.drained()
    }
  }

  async #check(did: string, signal: AbortSignal): Promise<void> {
    const host = webHostOf(did)
    if (host === undefined) await this.#resolving.push(did, () => this.#resolve(did, signal), signal)
    else this.#add(did, host, { ask: (watch) => this.#resolve(did, signal, watch), isFirst: true })
  }

  /** A question that finds no room is left for the next time that its account is suspected. */
  #add(did: string, host: string, question: Omit<Question, 'drop'>): void {
    this.#places.add(host, { ...question, drop: () => void this.#asked.delete(did) })
  }

  async #resolve(did: string, signal: AbortSignal, watch?: AskingWatch): Promise<void> {
    const { keys, onAnswer } = this.#options
    await this.#answering(did, signal, async () => {
      const { pds } = await (watch === undefined ? keys.resolve(did, signal) : this.#inTime(did, signal, watch))
      if (pds === undefined) return onAnswer('no-answer')
      const { host } = new URL(pds)
      this.#add(did, host, { ask: (watch) => this.#ask({ did, pds, host, watch }, signal) })
    })
  }

  /**
   * Resolves a did:web. It has less time than the minute that its commits wait for its document, because others need
   * the place.
   * @throws CrowdedError when its host was not asked in time; TransientError when the host gave no answer
   */
  async #inTime(did: string, signal: AbortSignal, watch: AskingWatch): Promise<Account> {
    const stop = new AbortController()
    const ends = AbortSignal.any([signal, stop.signal])
    let isAsked = false
    const asking: AskingWatch = {
      asked: () => ((isAsked = true), watch.asked()),
      // After a failure the host is asked again, and all of that is the host's time. After an answer the host's time is
      // over: Redis, where the answer is stored, may be slow.
      answered(isAnswer = true) {
        if (isAnswer) watch.answered()
      },
    }
    const over = async (): Promise<never> => {
      await sleep(TURN_MS, ends)
      if (!isAsked) throw new CrowdedError(`${did} has not had its turn within ${TURN_MS} ms`)
      await sleep(ANSWER_MS - TURN_MS, ends)
      throw new TransientError(`${did}: no document within ${ANSWER_MS} ms`)
    }
    try {
      return await Promise.race([this.#options.keys.resolve(did, ends, asking), over()])
    } finally {
      stop.abort()
    }
  }

  async #ask(
    { did, pds, host, watch }: { did: string; pds: string; host: string; watch: AskingWatch },
    signal: AbortSignal,
  ): Promise<void> {
    const { xrpc, onAnswer } = this.#options
    await this.#answering(did, signal, async () => {
      const time = new Date().toISOString()
      watch.asked()
      const status = await xrpc.getRepoStatus(pds, did, { signal, limits: LIMITS }).finally(() => watch.answered())
      onAnswer((await this.#note({ did, host, time, status }, signal)) ? 'differs' : 'as-held')
    })
  }

  /** Asks, and counts a failure as no answer, unless the fault is ours. */
  async #answering(did: string, signal: AbortSignal, ask: () => Promise<void>): Promise<void> {
    const { log, onAnswer } = this.#options
    try {
      await ask()
    } catch (error) {
      if (isAbort(error) && signal.aborted) return
      // The host was not asked, so this does not count as a question.
      if (error instanceof CrowdedError) return void this.#asked.delete(did)
      // A refusal may be the host's answer, or our client's verdict on it: a redirect to nowhere, a private address,
      // too many bytes.
      const isTheirs =
        error instanceof TransientError || error instanceof RefusedError || error instanceof IdentityUnavailableError
      if (!isTheirs) throw this.#end(error)
      log.debug({ did, error: error.message }, 'the status of an account could not be asked for')
      onAnswer('no-answer')
    }
  }

  /**
   * Ends the run with a fault of ours now, and not when the next account is suspected.
   * @returns the fault
   */
  #end(error: unknown): unknown {
    this.#fault ??= { error }
    this.#wake?.()
    return error
  }

  /**
   * Notes what a host says of its account: an account event, and the chain record, if it is news.
   * @returns whether the host says something else than we held
   */
  async #note({ did, host, time, status }: Answer, signal: AbortSignal): Promise<boolean> {
    const { redis, producer, repoStream } = this.#options
    const { active } = status
    const event: AccountEvent = {
      type: 'account',
      seq: SEQ_BACKFILL,
      time,
      did,
      active,
      ...(status.status !== undefined && { status: status.status }),
      host,
    }
    const entry = streamEventCodec.encode(event).event!
    const finding: Finding = { host, did, what: { kind: 'account', entry, active } }
    for (;;) {
      const [stored] = await readChains(redis, [did])
      if ((stored?.record.inactive ?? false) === !active) return false
      const known = new Map(stored && [[did, stored.record]])
      const { entries, records, requests } = decide([finding], known, {
        nowSeconds: Math.floor(Date.now() / 1_000),
        asks: 1,
        // Questions about one account are limited by `everyMs` already.
        mayAsk: () => true,
      })
      const also: Step[] = [...records].map(([did, record]) => moveChain(did, stored, record))
      const values = requests.map((request) => backfillEventCodec.encode(request).repo!)
      if (values.length > 0) also.push({ step: 'add', stream: repoStream, field: 'repo', values })
      try {
        await producer.append(entries, signal, { also })
        return true
      } catch (error) {
        if (!(error instanceof StateConflictError)) throw error
      }
    }
  }
}
