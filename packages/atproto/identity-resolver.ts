/**
 * DID → identity, by way of a shared cache.
 *
 * - A directory or host that is down is a TransientError ("could not check"); "does not exist", "was ended" and "is no
 *   document" are answers, and are cached for a short time.
 * - While a refresh fails, an identity that is known stays valid.
 * - Requests for the same DID share one fetch. A purge parts from it: who asks after the purge gets what is true after it.
 * - A forced refresh (after a bad signature) is limited per DID, or forged commits would become requests to the directory.
 *
 * Written on our own HTTP client, and not on `DidResolver` of `@atproto/identity`: there a did:web host that answers 500 is
 * "does not exist", and a DID that was ended an error like an outage.
 */
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { HttpClient, HttpResponse } from './http.ts'
import type { CachedResolution, IdentityCache } from './identity-cache.ts'
import { parseDidDocument, type Identity, type Resolution } from './identity.ts'
import { isDid } from './syntax.ts'
import { Throttle } from './throttle.ts'
import { retryAfterOf } from './xrpc.ts'

export interface IdentityResolverOptions {
  /** The PLC directory, `https://plc.directory`. */
  plcUrl: string
  http: Pick<HttpClient, 'get'>
  cache: IdentityCache
  /** How long an identity is taken as it is. `#identity` is best effort, so it is not for ever. */
  freshMs?: number
  /** How long a DID that did not resolve, or whose refresh failed, is not asked for again. */
  negativeMs?: number
  /** The least time between two forced refreshes of one DID. */
  refreshEveryMs?: number
  timeoutMs?: number
  plcConcurrency?: number
  plcPerSecond?: number
  webConcurrency?: number
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
  now: Date.now,
}

const WAITING = 20_000
const REFRESHES_REMEMBERED = 100_000
const DOCUMENT_BYTES = 512 * 1024
const ACCEPT = { accept: 'application/did+ld+json, application/json' }

export class IdentityResolver {
  readonly #options: Required<IdentityResolverOptions>
  readonly #plc: Throttle
  readonly #web: Throttle
  readonly #flights = new Map<string, Promise<Resolution>>()
  /** When each DID was last refreshed by force, oldest first. */
  readonly #refreshes = new Map<string, number>()

  constructor(given: IdentityResolverOptions) {
    const options = { ...DEFAULTS, ...given }
    this.#options = options
    this.#plc = new Throttle({
      name: 'PLC directory',
      concurrency: options.plcConcurrency,
      perSecond: options.plcPerSecond,
      waiting: WAITING,
    })
    this.#web = new Throttle({
      name: 'did:web',
      concurrency: options.webConcurrency,
      perSecond: 1_000,
      waiting: WAITING,
    })
  }

  /**
   * The identity of a DID, from the cache when that is fresh.
   * @throws TransientError when it could not be checked and nothing is known
   */
  async resolve(did: string): Promise<Resolution> {
    if (!isDid(did)) return { status: 'invalid', detail: 'not a DID' }
    const { cached, epoch } = await this.#options.cache.get(did)
    if (cached !== undefined && this.#isFresh(cached)) return cached.resolution
    try {
      return await this.#fly(did, epoch)
    } catch (error) {
      if (!(error instanceof TransientError) || cached?.resolution.status !== 'found') throw error
      await this.#keep(did, cached.resolution, epoch)
      return cached.resolution
    }
  }

  /**
   * As `resolve`, past the cache, unless this DID was refreshed a moment ago: `refreshed` says whether it was asked for anew.
   * @throws TransientError when it could not be checked
   */
  async refresh(did: string): Promise<{ resolution: Resolution; refreshed: boolean }> {
    const now = this.#options.now()
    const last = this.#refreshes.get(did)
    if (last !== undefined && now - last < this.#options.refreshEveryMs) {
      return { resolution: await this.resolve(did), refreshed: false }
    }
    this.#refreshes.delete(did)
    this.#refreshes.set(did, now)
    if (this.#refreshes.size > REFRESHES_REMEMBERED) this.#refreshes.delete(this.#refreshes.keys().next().value!)
    try {
      const { epoch } = await this.#options.cache.get(did)
      return { resolution: await this.#fly(did, epoch), refreshed: true }
    } catch (error) {
      this.#refreshes.delete(did) // it was not checked, so it may be asked again
      throw error
    }
  }

  /** Forgets what is known of a DID, in all processes that share the cache. */
  async purge(did: string): Promise<void> {
    await this.#options.cache.purge(did)
    this.#flights.delete(did)
  }

  /** What is known counts as fresh for a while longer, or an outage would be asked about at every event. */
  async #keep(did: string, resolution: Resolution, epoch: number): Promise<void> {
    const { cache, freshMs, negativeMs, now } = this.#options
    await cache.set(did, { resolution, resolvedAt: now() - freshMs + negativeMs }, epoch)
  }

  #isFresh({ resolution, resolvedAt }: CachedResolution): boolean {
    const { freshMs, negativeMs, now } = this.#options
    return now() - resolvedAt < (resolution.status === 'found' ? freshMs : negativeMs)
  }

  #fly(did: string, epoch: number): Promise<Resolution> {
    const underWay = this.#flights.get(did)
    if (underWay !== undefined) return underWay
    const flight = this.#fetch(did, epoch).finally(() => {
      if (this.#flights.get(did) === flight) this.#flights.delete(did)
    })
    this.#flights.set(did, flight)
    return flight
  }

  async #fetch(did: string, epoch: number): Promise<Resolution> {
    const resolution = await this.#ask(did)
    await this.#options.cache.set(did, { resolution, resolvedAt: this.#options.now() }, epoch)
    return resolution
  }

  async #ask(did: string): Promise<Resolution> {
    const { plcUrl } = this.#options
    if (did.startsWith('did:plc:')) return this.#plc.run(() => this.#get(did, new URL(`/${did}`, plcUrl), this.#plc))
    const url = did.startsWith('did:web:') ? webUrl(did) : undefined
    if (url === undefined) return { status: 'invalid', detail: 'not a DID of a method that atproto uses' }
    return this.#web.run(() => this.#get(did, url))
  }

  async #get(did: string, url: URL, throttle?: Throttle): Promise<Resolution> {
    const { http, timeoutMs } = this.#options
    const limits = { headersMs: timeoutMs, idleMs: timeoutMs, totalMs: timeoutMs, bytes: DOCUMENT_BYTES, redirects: 0 }
    try {
      const response = await http.get(url, { limits, headers: ACCEPT })
      if (response.status === 200) return documentOf(did, await response.bytes())
      await response.discard()
      if (response.status === 404) return { status: 'missing' }
      if (response.status === 410) return { status: 'tombstoned' }
      throw outage(did, response, throttle)
    } catch (error) {
      if (error instanceof RefusedError) return { status: 'invalid', detail: error.message }
      throw error
    }
  }
}

function documentOf(did: string, bytes: Buffer): Resolution {
  let document: unknown
  try {
    document = JSON.parse(bytes.toString())
  } catch {
    return { status: 'invalid', detail: 'not JSON' }
  }
  return { status: 'found', identity: parseDidDocument(did, document) satisfies Identity }
}

function outage(did: string, response: HttpResponse, throttle: Throttle | undefined): TransientError {
  const retryAfterMs = retryAfterOf(response.headers, Date.now())
  if (response.status === 429) throttle?.pause(retryAfterMs ?? 5_000)
  return new TransientError(`${did}: ${response.url.host} answers ${response.status}`, { retryAfterMs })
}

/** did:web of a host alone; a port, percent-encoded, is for test networks, where it is plain http. */
function webUrl(did: string): URL | undefined {
  const host = did.slice('did:web:'.length)
  if (host.includes(':')) return undefined
  const name = host.replace(/%3a/gi, ':')
  const isLocal = name === 'localhost' || name.startsWith('localhost:')
  const url = `${isLocal ? 'http' : 'https'}://${name}/.well-known/did.json`
  return /^[a-zA-Z0-9.-]+(?::\d+)?$/.test(name) && URL.canParse(url) ? new URL(url) : undefined
}
