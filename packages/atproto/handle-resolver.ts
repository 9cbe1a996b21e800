/**
 * Handle → DID, and the check in both directions that makes a claimed handle a verified one.
 * https://atproto.com/specs/handle#handle-resolution
 *
 * DNS (`_atproto.<handle>` TXT) goes before HTTPS (`/.well-known/atproto-did`). "Nobody claims this handle" is an
 * answer. A name server or host that does not answer is a TransientError, so that an outage never takes handles away.
 *
 * Both the requests at once and the requests a second are few. A host that answers 429 is left alone for as long as it
 * asks. The handles of one owner (`host-owner.ts`) may have half of the places that others leave free. They have at
 * most a sixteenth of all places when that many of them give no answer: the owner of a wildcard domain has any number
 * of handles. Many handles alone are no reason for that, since most honest ones are below one domain too
 * (`bsky.social`).
 */
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { DomainPauses } from './domain-pauses.ts'
import { DNS_MS, isNotThere, isOfDns, resolverOf, type DnsOptions } from './host-names.ts'
import { ownerOf } from './host-owner.ts'
import type { HttpClient } from './http.ts'
import type { Identity } from './identity.ts'
import { retryAfterOf } from './rate-limit.ts'
import { isDid, isHandle } from './syntax.ts'
import { Throttle } from './throttle.ts'

export interface HandleResolverOptions {
  http: Pick<HttpClient, 'get'>
  timeoutMs?: number
  /** Name servers (`address` or `address:port`) instead of the system's. */
  nameservers?: readonly string[]
  /**
   * For handles with these endings (`.test`) the account's own PDS is asked, since no DNS knows them: for test
   * networks. Never set this for names of the real network: a host must not vouch for its own accounts.
   */
  askPdsFor?: readonly string[]
  concurrency?: number
  perSecond?: number
}

/** Handles with these endings never resolve. https://atproto.com/specs/handle#additional-non-syntax-restrictions */
const RESERVED = ['.alt', '.arpa', '.example', '.internal', '.invalid', '.local', '.localhost', '.onion']
const ANSWER_BYTES = 4096
const WAITING = 20_000
/**
 * The handles of an owner hold at most a sixteenth of the places, or one place, while their hosts or name servers do
 * not answer.
 */
const PART_OF_SLOW = 16
/** The pause for a host that answers 429 and does not say for how long. */
const PAUSE_MS = 30_000

export class HandleResolver {
  readonly #http: Pick<HttpClient, 'get'>
  readonly #timeoutMs: number
  readonly #askPdsFor: readonly string[]
  readonly #dns: DnsOptions
  readonly #throttle: Throttle
  readonly #pauses = new DomainPauses()

  constructor(options: HandleResolverOptions) {
    const { http, timeoutMs = 5_000, askPdsFor = [], nameservers, concurrency = 32, perSecond = 100 } = options
    this.#http = http
    this.#timeoutMs = timeoutMs
    this.#askPdsFor = askPdsFor
    this.#dns = { timeoutMs: Math.min(timeoutMs, DNS_MS), nameservers }
    this.#throttle = new Throttle({
      name: 'handle resolution',
      concurrency,
      concurrencyOfSlow: Math.max(1, Math.floor(concurrency / PART_OF_SLOW)),
      perSecond,
      waiting: WAITING,
    })
  }

  /**
   * The handle of an identity when it leads back to the identity's DID; undefined when the identity has no handle, or
   * one that leads elsewhere.
   * @throws TransientError when the handle could not be checked
   */
  async verify({ did, handle, pds }: Identity): Promise<string | undefined> {
    if (handle === undefined) return undefined
    return (await this.resolve(handle, { pds })) === did ? handle : undefined
  }

  /**
   * The DID that a handle leads to, if any.
   * @param pds the account's PDS, which is asked about handles of `askPdsFor`
   * @throws CrowdedError when nobody was asked; TransientError when the handle could not be checked
   */
  async resolve(handle: string, { pds }: { pds?: string } = {}): Promise<string | undefined> {
    if (!isHandle(handle) || RESERVED.some((ending) => handle.endsWith(ending))) return undefined
    if (this.#askPdsFor.some((ending) => handle.endsWith(ending))) {
      // All hosts of a test network have one owner, so here the handle counts as the owner of its lookup.
      return pds && this.#throttle.run(() => this.#byPds(handle, pds), handle)
    }
    this.#assertNotPaused(handle)
    return this.#throttle.run(() => this.#byNetwork(handle), ownerOf(handle))
  }

  async #byNetwork(handle: string): Promise<string | undefined> {
    const byDns = await this.#byDns(handle).catch((error: unknown) => asTransient(handle, error))
    if (typeof byDns === 'string') return byDns
    const byHttps = await this.#byHttps(handle)
    if (byHttps === undefined && byDns !== undefined) throw byDns
    return byHttps
  }

  async #byDns(handle: string): Promise<string | undefined> {
    try {
      const answer = await resolverOf(this.#dns).resolveTxt(`_atproto.${handle}`)
      const records = answer.map((chunks) => chunks.join(''))
      const claims = records.filter((record) => record.startsWith('did=')).map((record) => record.slice(4))
      const [did] = claims
      return claims.length === 1 && isDid(did!) ? did : undefined
    } catch (error) {
      if (isNotThere(error)) return undefined
      throw error
    }
  }

  async #byHttps(handle: string): Promise<string | undefined> {
    const did = (await this.#text(new URL(`https://${handle}/.well-known/atproto-did`)))?.split('\n', 1)[0]?.trim()
    return did !== undefined && isDid(did) ? did : undefined
  }

  async #byPds(handle: string, pds: string): Promise<string | undefined> {
    const url = new URL('/xrpc/com.atproto.identity.resolveHandle', pds)
    url.searchParams.set('handle', handle)
    return didIn((await this.#text(url)) ?? '')
  }

  /**
   * The body of a 200. Undefined when the host gives another definite answer, or when there is no such host.
   * @throws TransientError when the host does not answer, or answers 429 or 5xx
   */
  async #text(url: URL): Promise<string | undefined> {
    const ms = this.#timeoutMs
    try {
      const limits = { headersMs: ms, idleMs: ms, totalMs: ms, bytes: ANSWER_BYTES, redirects: 3 }
      const response = await this.#http.get(url, { limits })
      if (response.status < 500 && response.status !== 429) this.#pauses.answered(url.hostname)
      if (response.status === 200) return (await response.bytes()).toString()
      await response.discard()
      const retryAfterMs = retryAfterOf(response.headers, Date.now())
      if (response.status === 429) this.#pauses.add(url.hostname, retryAfterMs ?? PAUSE_MS)
      if (response.status === 429 || response.status >= 500)
        throw new TransientError(`${url.host} answers ${response.status}`, { retryAfterMs })
      return undefined
    } catch (error) {
      if (error instanceof RefusedError || isUnknownHost(error)) return undefined
      throw error
    }
  }

  #assertNotPaused(handle: string): void {
    const retryAfterMs = this.#pauses.leftMs(handle)
    if (retryAfterMs > 0) throw new TransientError(`${handle} wants to be left alone`, { retryAfterMs })
  }
}

/** The DID in the answer of `resolveHandle`. */
function didIn(answer: string): string | undefined {
  try {
    const { did } = JSON.parse(answer) as { did?: unknown }
    return typeof did === 'string' && isDid(did) ? did : undefined
  } catch {
    return undefined
  }
}

function isUnknownHost(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) if (isNotThere(e)) return true
  return false
}

/**
 * The error of a lookup by DNS, as a TransientError.
 * @throws `error` itself when DNS is not its cause: that is a fault of ours, which no wait mends
 */
function asTransient(handle: string, error: unknown): TransientError {
  if (!isOfDns(error)) throw error
  return new TransientError(`${handle}: DNS does not answer`, { cause: error })
}
