/**
 * DID → identity, by way of a shared cache.
 *
 * - A directory or host that is down is a TransientError ("could not check"). "Does not exist", "was ended" and "is no
 *   document" are answers, and are cached for a short time.
 * - did:web: the host belongs to the owner of the DID, so whatever it says counts. A redirect or a page is `invalid`, a
 *   404 is `missing`.
 * - did:plc: the directory does not belong to the owner, so only these are answers: a document of that very DID (wrong
 *   parts are left out), an answer that is too large to be read (`invalid`), and the words of `PLC_WORDS`
 *   (`did-answers.ts`). All else (a redirect, a page, the document of another DID, a 404 without these words) is an
 *   outage: `PLC_URL` leads elsewhere, or the directory is broken. Otherwise a wrong setting would leave every account
 *   without a key and a handle.
 * - While a refresh fails, a known identity stays valid.
 * - Requests for the same DID share one fetch. Not across a purge: a caller that asks after the purge gets what is true
 *   after it.
 * - A forced refresh (after a bad signature) is limited for each DID. Otherwise forged commits would become requests to
 *   the directory.
 * - Hosts of did:webs are asked in places that are shared by their owners (`host-owner.ts`): one owner has at most an
 *   eighth of them at once, and owners take turns. Otherwise any number of hosts below one wildcard domain that never
 *   answer would keep all others waiting. Urgent lookups, for which a person waits, share places only with other urgent
 *   ones of the same owner. A lookup that waits becomes urgent when somebody asks urgently for the same DID.
 *
 * Not written on `DidResolver` of `@atproto/identity`: there a did:web host that answers 500 is "does not exist", and a
 * DID that was ended is an error like an outage.
 */
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { remember } from '@sluice/runtime/remember.ts'
import { documentOf, outage, wordOf } from './did-answers.ts'
import { webHostOf } from './did-web.ts'
import { Flight, type AskingWatch } from './flight.ts'
import { ownerOf } from './host-owner.ts'
import type { HttpClient, HttpResponse } from './http.ts'
import type { CachedResolution, IdentityCache } from './identity-cache.ts'
import type { Resolution } from './identity.ts'
import { isAtprotoDid, isDid } from './syntax.ts'
import { Throttle } from './throttle.ts'

export interface IdentityResolverOptions {
  /** The PLC directory, `https://plc.directory`. */
  plcUrl: string
  http: Pick<HttpClient, 'get'>
  cache: IdentityCache
  /** How long a cached identity counts as fresh. Not for ever, since `#identity` events are best effort. */
  freshMs?: number
  /** For how long a DID is not asked for again after it did not resolve, or after its refresh failed. */
  negativeMs?: number
  /** The least time between two forced refreshes of one DID. */
  refreshEveryMs?: number
  timeoutMs?: number
  plcConcurrency?: number
  plcPerSecond?: number
  /** How many hosts of did:webs are asked at once. The hosts of one owner have an eighth of that. */
  webConcurrency?: number
  /**
   * How many lookups of did:webs may wait; more are turned away (CrowdedError). To be small where a waiting lookup
   * holds a place that others need.
   */
  webWaiting?: number
  /**
   * Whether lookups of owners whose hosts do not answer are turned away at once, for minutes (`throttle.ts`). Otherwise
   * they wait for their turn; then as many of such owners as may wait keep all others from waiting. For callers whose
   * lookups may as well be made later. Default: false.
   */
  webSlowTurnedAway?: boolean
  now?: () => number
}

const DEFAULTS = {
  freshMs: 24 * 3_600_000,
  negativeMs: 120_000,
  refreshEveryMs: 60_000,
  timeoutMs: 5_000,
  plcConcurrency: 32,
  plcPerSecond: 200,
  webConcurrency: 32,
  webWaiting: 20_000,
  webSlowTurnedAway: false,
  now: Date.now,
}

const PLC_WAITING = 20_000
/** The hosts of one owner hold at most an eighth of the places for did:webs at once, or one place. */
const PART_OF_WEB = 8
const REFRESHES_REMEMBERED = 100_000
const DOCUMENT_BYTES = 512 * 1024
const ACCEPT = { accept: 'application/did+ld+json, application/json' }
/** The most bytes that are read of a 404 or 410. The text that says that a DID has no document is short. */
const WORD_BYTES = 4_096
/** A request whose answer is to be stored in the cache. */
interface Fill {
  /** The epoch of the DID in the cache, read before the request. */
  epoch: number
  urgent: boolean
}

export class IdentityResolver {
  readonly #options: Required<IdentityResolverOptions>
  readonly #plc: Throttle
  readonly #web: Throttle
  readonly #flights = new Map<string, Flight<Resolution>>()
  /** When each DID was last refreshed by force, oldest first. */
  readonly #refreshes = new Map<string, number>()
  #plcAnswers = 0

  constructor(given: IdentityResolverOptions) {
    const options = { ...DEFAULTS, ...given }
    this.#options = options
    this.#plc = new Throttle({
      name: 'PLC directory',
      concurrency: options.plcConcurrency,
      perSecond: options.plcPerSecond,
      waiting: PLC_WAITING,
    })
    const webOfOne = Math.max(1, Math.floor(options.webConcurrency / PART_OF_WEB))
    this.#web = new Throttle({
      name: 'did:web',
      concurrency: options.webConcurrency,
      concurrencyOfOne: webOfOne,
      ...(options.webSlowTurnedAway && { concurrencyOfSlow: webOfOne }),
      perSecond: 1_000,
      waiting: options.webWaiting,
    })
  }

  /**
   * How often the directory of did:plc has answered so far as a directory does, for any caller. The count stands still
   * in an outage, and while `PLC_URL` leads elsewhere.
   */
  get plcAnswers(): number {
    return this.#plcAnswers
  }

  /**
   * The identity of a DID, from the cache when that is fresh.
   * @param watch told of the request to the directory or host, if there is one
   * @throws TransientError when the DID could not be checked and no identity is known
   */
  async resolve(did: string, watch?: AskingWatch, { urgent = false } = {}): Promise<Resolution> {
    if (!isDid(did)) return { status: 'invalid', detail: 'not a DID' }
    const { cached, epoch } = await this.#options.cache.get(did)
    if (cached !== undefined && this.#isFresh(cached)) return cached.resolution
    try {
      return await this.#fly(did, { epoch, watch, urgent })
    } catch (error) {
      if (!(error instanceof TransientError) || cached?.resolution.status !== 'found') throw error
      await this.#keep(did, cached.resolution, epoch)
      return cached.resolution
    }
  }

  /**
   * As `resolve`, past the cache. But a DID that was refreshed by force a moment ago is resolved as usual: `refreshed`
   * says whether it was asked for anew.
   * @throws TransientError when the DID could not be checked
   */
  async refresh(
    did: string,
    watch?: AskingWatch,
    { urgent = false } = {},
  ): Promise<{ resolution: Resolution; refreshed: boolean }> {
    const now = this.#options.now()
    const last = this.#refreshes.get(did)
    if (last !== undefined && now - last < this.#options.refreshEveryMs) {
      return { resolution: await this.resolve(did, watch, { urgent }), refreshed: false }
    }
    remember(this.#refreshes, did, now, REFRESHES_REMEMBERED)
    try {
      const { epoch } = await this.#options.cache.get(did)
      return { resolution: await this.#fly(did, { epoch, watch, urgent }), refreshed: true }
    } catch (error) {
      this.#refreshes.delete(did) // the DID was not checked, so a refresh is allowed again at once
      throw error
    }
  }

  /** Forgets what is known of a DID, in all processes that share the cache. */
  async purge(did: string): Promise<void> {
    await this.#options.cache.purge(did)
    this.#flights.delete(did)
  }

  /**
   * Makes a known identity count as fresh for `negativeMs` more. Otherwise, in an outage, every event would cause a
   * request.
   */
  async #keep(did: string, resolution: Resolution, epoch: number): Promise<void> {
    const { cache, freshMs, negativeMs, now } = this.#options
    await cache.set(did, { resolution, resolvedAt: now() - freshMs + negativeMs }, epoch)
  }

  #isFresh({ resolution, resolvedAt }: CachedResolution): boolean {
    const { freshMs, negativeMs, now } = this.#options
    return now() - resolvedAt < (resolution.status === 'found' ? freshMs : negativeMs)
  }

  #fly(did: string, { watch, ...rest }: Fill & { watch: AskingWatch | undefined }): Promise<Resolution> {
    const flight = this.#flights.get(did) ?? this.#begin(did, rest)
    if (watch !== undefined) flight.watch(watch)
    if (rest.urgent) flight.hurry()
    return flight.landed
  }

  #begin(did: string, { epoch, urgent }: Fill): Flight<Resolution> {
    const flight: Flight<Resolution> = new Flight(async (own) => {
      try {
        const resolution = await this.#ask(did, urgent, own)
        await this.#options.cache.set(did, { resolution, resolvedAt: this.#options.now() }, epoch)
        return resolution
      } finally {
        if (this.#flights.get(did) === flight) this.#flights.delete(did)
      }
    })
    this.#flights.set(did, flight)
    return flight
  }

  async #ask(
    did: string,
    urgent: boolean,
    flight: Pick<Flight<Resolution>, 'asking' | 'onHurry'>,
  ): Promise<Resolution> {
    if (did.startsWith('did:plc:')) {
      const resolution = await this.#plc.run(() => flight.asking(() => this.#askDirectory(did)))
      this.#plcAnswers++
      return resolution
    }
    const url = did.startsWith('did:web:') ? webUrl(did) : undefined
    if (url === undefined) return { status: 'invalid', detail: 'not a DID of a method that atproto uses' }
    const owner = ownerOf(url.host)
    const whenUrgent = `${owner}, urgent`
    const ask = () => flight.asking(() => this.#askHost(did, url))
    flight.onHurry(() => this.#web.move(ask, owner, whenUrgent))
    return this.#web.run(ask, urgent ? whenUrgent : owner)
  }

  async #askDirectory(did: string): Promise<Resolution> {
    const url = new URL(`/${did}`, this.#options.plcUrl)
    try {
      const response = await this.#get(url)
      const { status } = response
      if (status === 200) return documentOf(did, await response.bytes())
      if (status === 404 || status === 410) return wordOf(await response.bytes(WORD_BYTES), status)
      await response.discard()
      const error = outage(did, response)
      if (status === 429) this.#plc.pause(error.retryAfterMs ?? 5_000)
      throw error
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      if (error.reason === 'http-too-large') return { status: 'invalid', detail: error.message }
      const what = `${did}: ${url.host} does not answer as a PLC directory does: see whether PLC_URL is one`
      throw new TransientError(`${what} (${error.message})`, { cause: error })
    }
  }

  async #askHost(did: string, url: URL): Promise<Resolution> {
    try {
      const response = await this.#get(url)
      if (response.status === 200) return documentOf(did, await response.bytes())
      await response.discard()
      if (response.status === 404) return { status: 'missing' }
      if (response.status === 410) return { status: 'tombstoned' }
      throw outage(did, response)
    } catch (error) {
      if (error instanceof RefusedError) return { status: 'invalid', detail: error.message }
      throw error
    }
  }

  #get(url: URL): Promise<HttpResponse> {
    const { http, timeoutMs } = this.#options
    const limits = { headersMs: timeoutMs, idleMs: timeoutMs, totalMs: timeoutMs, bytes: DOCUMENT_BYTES, redirects: 0 }
    return http.get(url, { limits, headers: ACCEPT })
  }
}

/** The URL of a did:web's document; undefined when the DID can have none (`isAtprotoDid`). Plain http for localhost. */
function webUrl(did: string): URL | undefined {
  if (!isAtprotoDid(did)) return undefined
  const name = webHostOf(did)!
  const isLocal = name === 'localhost' || name.startsWith('localhost:')
  const url = `${isLocal ? 'http' : 'https'}://${name}/.well-known/did.json`
  return URL.canParse(url) ? new URL(url) : undefined
}
