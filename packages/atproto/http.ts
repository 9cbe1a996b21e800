/**
 * HTTP GET to hosts that strangers name. Every address is checked, and every wait and every size is bounded.
 *
 * - SSRF: only https to public addresses, checked again at each redirect. Exempt are the origins in `allowOrigins`;
 *   with `allowPrivate` all are. See `addresses.ts`, and `wayTo`.
 * - Time: limits for connecting, for the response headers, for silence within the body, for the speed of the body, and
 *   for the whole request.
 * - Size: counted after decompression (`http-encoding.ts`), so that a compression bomb counts with its full size. The
 *   part of a body that waits for us to read it is limited too.
 * - Connections: an idle connection is closed soon, also when the host asks to keep it longer.
 *
 * A failure of the network is a TransientError. A failure that would happen again in the same way is a RefusedError.
 */
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { Agent, type Dispatcher } from 'undici'
import { mayBePublic, PrivateAddressError, publicLookup, publicLookupBy } from './addresses.ts'
import { HostNames } from './host-names.ts'
import { collect, paced } from './http-body.ts'
import { decoded } from './http-encoding.ts'

export const HTTP_REFUSALS = [
  'http-bad-url',
  'http-private-address',
  'http-too-many-redirects',
  'http-too-large',
  'http-bad-encoding',
] as const
export type HttpRefusal = (typeof HTTP_REFUSALS)[number]

export interface HttpLimits {
  /**
   * From the request to the response headers. On a new connection, the time to connect comes on top (`connectMs` of the
   * client).
   */
  headersMs: number
  /** The longest silence within a body. */
  idleMs: number
  /** From the request to the last byte. */
  totalMs: number
  /** The size of the body, after decompression. */
  bytes: number
  /** The least speed, over windows of `idleMs`, while we wait for the host (not while we are busy). */
  bytesPerSecond: number
  redirects: number
}

const HTTP_LIMITS: HttpLimits = {
  headersMs: 30_000,
  idleMs: 30_000,
  totalMs: 60_000,
  bytes: 4 * 1024 * 1024,
  bytesPerSecond: 100,
  redirects: 5,
}

export interface HttpOptions {
  /** Allows any address, and plain http: for test networks. */
  allowPrivate?: boolean
  /**
   * Origins (`https://host`, `http://host:port`) that may have any address and use plain http. Counts only for requests
   * that begin at such an origin.
   */
  allowOrigins?: readonly string[]
  connectionsPerHost?: number
  connectMs?: number
  /** Name servers (`address` or `address:port`) to look up host names that strangers chose, instead of the system's. */
  nameservers?: readonly string[]
}

export interface HttpResponse {
  status: number
  headers: Record<string, string | string[] | undefined>
  /** Where the answer came from, after redirects. */
  url: URL
  /** Decompressed chunks. Iterate it to its end, or call `discard`. */
  body: AsyncIterable<Uint8Array>
  /** The whole body. With `maxBytes`, only the first `maxBytes` bytes; the rest is not read. */
  bytes(maxBytes?: number): Promise<Buffer>
  /**
   * Reads the body to its end, so that its connection can be used again. Gives up after 128 KiB or at a time limit.
   * Never rejects.
   */
  discard(): Promise<void>
}

export interface GetOptions {
  limits?: Partial<HttpLimits>
  signal?: AbortSignal
  headers?: Record<string, string>
  /**
   * Awaited before a redirect is followed, since the other host may have limits of its own. An error that it throws
   * ends the request.
   */
  onRedirect?: (to: URL) => Promise<void>
}

const CONNECT_MS = 5_000
/**
 * How long an idle connection is kept. A host may ask for more (`Keep-Alive: timeout=600`), and the owner of a wildcard
 * domain has any number of hosts.
 */
const IDLE_MS = 4_000
/**
 * How many bytes of a body may wait for us to read them. A host may send each byte as a piece of its own, and each
 * piece takes 125 bytes of memory beside its content. With 64 KiB here, and as much again before the decoder, 100 kB
 * from a host held 16 MB. A smaller limit makes honest bodies slower.
 */
const WAITING_BYTES = 8 * 1024
const REDIRECTS = new Set([301, 302, 303, 307, 308])

export class HttpClient {
  readonly #exempt: Exempt
  readonly #guarded: Agent
  readonly #open: Agent

  constructor(options: HttpOptions = {}) {
    const origins = new Set(options.allowOrigins?.map((url) => new URL(url).origin))
    this.#exempt = { all: options.allowPrivate ?? false, origins }
    const { nameservers, connectMs: timeout = CONNECT_MS } = options
    const lookup = nameservers === undefined ? publicLookup : publicLookupBy(new HostNames({ nameservers }))
    const shared = {
      connections: options.connectionsPerHost ?? 16,
      pipelining: 1,
      maxHeaderSize: 32 * 1024,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
      // By HTTP/2, which is undici's default, a body in pieces of one byte takes 17 MB here before it is read
      // (HTTP/1.1: 1 MB), and `maxHeaderSize` does not count.
      allowH2: false,
    }
    this.#guarded = new Agent({ ...shared, connect: { timeout, lookup } })
    this.#open = new Agent({ ...shared, connect: { timeout } })
  }

  /**
   * Requests `url` and follows redirects. Gives the response whatever its status is.
   * @throws TransientError, RefusedError<HttpRefusal>, or the reason of `signal` when it aborts
   */
  async get(url: string | URL, options: GetOptions = {}): Promise<HttpResponse> {
    const limits = { ...HTTP_LIMITS, ...options.limits }
    const deadline = new AbortController()
    const timer = setTimeout(
      () => deadline.abort(new TransientError(`${String(url)}: no end within ${limits.totalMs} ms`)),
      limits.totalMs,
    )
    const onAbort = (): void => deadline.abort(options.signal!.reason)
    options.signal?.addEventListener('abort', onAbort)
    if (options.signal?.aborted) onAbort()
    const release = (): void => {
      clearTimeout(timer)
      options.signal?.removeEventListener('abort', onAbort)
    }
    try {
      const { answer, at } = await this.#follow(parseUrl(url), limits, deadline.signal, options)
      return responseOf(answer, at, limits, deadline.signal, release)
    } catch (error) {
      release()
      throw deadline.signal.aborted ? deadline.signal.reason : networkError(String(url), error)
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#guarded.destroy(), this.#open.destroy()])
  }

  async #follow(first: URL, limits: HttpLimits, signal: AbortSignal, { headers, onRedirect }: GetOptions) {
    let at = first
    const hops = [first]
    for (let hop = 0; ; hop++) {
      const agent = wayTo(hops, this.#exempt) === 'open' ? this.#open : this.#guarded
      const answer = await agent.request({
        origin: at.origin,
        path: at.pathname + at.search,
        method: 'GET',
        headers: { 'accept-encoding': 'gzip', 'user-agent': 'sluice', ...headers },
        headersTimeout: limits.headersMs,
        bodyTimeout: limits.idleMs,
        highWaterMark: WAITING_BYTES,
        signal,
      })
      const { location } = answer.headers
      if (!REDIRECTS.has(answer.statusCode) || typeof location !== 'string') return { answer, at }
      await answer.body.dump()
      if (hop >= limits.redirects) throw refuse('http-too-many-redirects', `${first.href} → ${at.href}`)
      at = parseUrl(location, at)
      hops.push(at)
      await onRedirect?.(at)
      signal.throwIfAborted()
    }
  }
}

/** Which origins may have any address and use plain http. */
export interface Exempt {
  all: boolean
  /** In the form of `URL.origin`. */
  origins: ReadonlySet<string>
}

/**
 * How the last URL of `hops` may be reached. `hops`: the request's URL, and each URL to which a redirect has led.
 * `open`: at any address. `guarded`: only at public addresses, by https. An exempt origin counts only if all hops
 * before it are exempt too: a stranger's redirect must not reach an address that the operator exempted.
 * @throws RefusedError<HttpRefusal> when the URL may not be requested at all
 */
export function wayTo(hops: readonly URL[], { all, origins }: Exempt): 'open' | 'guarded' {
  const url = hops.at(-1)!
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw refuse('http-bad-url', url.href)
  if (all || hops.every(({ origin }) => origins.has(origin))) return 'open'
  if (url.protocol !== 'https:') throw refuse('http-bad-url', `${url.origin} is not https`)
  if (!mayBePublic(url)) throw refuse('http-private-address', url.origin)
  return 'guarded'
}

function responseOf(
  answer: Dispatcher.ResponseData,
  url: URL,
  limits: HttpLimits,
  signal: AbortSignal,
  release: () => void,
): HttpResponse {
  const encoding = String(answer.headers['content-encoding'] ?? 'identity').toLowerCase()
  const plain = decoded(answer.body, encoding)
  if (plain === undefined) throw refuse('http-bad-encoding', encoding.slice(0, 100))
  const body = paced(plain, {
    ...limits,
    signal,
    url,
    release,
    toError: (error) => networkError(String(url), error),
  })
  return {
    status: answer.statusCode,
    headers: answer.headers,
    url,
    body,
    bytes: (maxBytes) => collect(body, maxBytes),
    async discard() {
      await answer.body.dump()
      // Not earlier: `release` ends the time limit, and a host that sends its body slowly would then have no deadline.
      release()
    },
  }
}

function parseUrl(url: string | URL, base?: URL): URL {
  const parsed = URL.canParse(String(url), base?.href) ? new URL(url, base) : undefined
  if (parsed === undefined) throw refuse('http-bad-url', String(url).slice(0, 200))
  return parsed
}

function networkError(url: string, error: unknown): unknown {
  if (error instanceof RefusedError || error instanceof TransientError) return error
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof PrivateAddressError) return refuse('http-private-address', cause.message)
  }
  return new TransientError(`${url}: the request failed`, { cause: error })
}

function refuse(reason: HttpRefusal, detail: string): RefusedError<HttpRefusal> {
  return new RefusedError(reason, detail)
}
