/**
 * HTTP GET towards hosts that strangers name: every address checked, every wait and every size bounded.
 *
 * - SSRF: only https to public addresses, checked anew at each redirect; origins that are allowed by name, and all by
 *   `allowPrivate`, may be anything. See `addresses.ts`, and `wayTo`.
 * - Time: connect, response headers, silence of the body, a least speed, and all together.
 * - Size: counted after decompression, so that a small bomb counts as what it becomes. What of a body waits for us is limited in pieces too.
 * - Connections: one that is not used is closed soon, whatever the host says.
 *
 * Hazards: Brotli is neither asked for nor taken, since a body may make its decoder hold a window of 16 MB, where gzip's is 32 kB. Nor is zstd, whose decoder
 * in Node (24.18) ends without an error when its input is cut short.
 *
 * A failure of the network is a TransientError; what will fail the same way again is a RefusedError.
 */
import { pipeline, type Readable, type Transform } from 'node:stream'
import { createGunzip, createInflate } from 'node:zlib'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { Agent, type Dispatcher } from 'undici'
import { mayBePublic, PrivateAddressError, publicLookup, publicLookupBy } from './addresses.ts'
import { HostNames } from './host-names.ts'
import { collect, paced } from './http-body.ts'

export const HTTP_REFUSALS = [
  'http-bad-url',
  'http-private-address',
  'http-too-many-redirects',
  'http-too-large',
  'http-bad-encoding',
] as const
export type HttpRefusal = (typeof HTTP_REFUSALS)[number]

export interface HttpLimits {
  /** From the request to the answer's head; on a new connection its making comes on top (`connectMs` of the client). */
  headersMs: number
  /** The longest silence within a body. */
  idleMs: number
  /** From the request to the last byte. */
  totalMs: number
  /** Of the body, after decompression. */
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
  /** Any address and plain http too: for test networks. */
  allowPrivate?: boolean
  /** Origins (`https://host`, `http://host:port`) that may have any address and plain http, for requests that begin there. */
  allowOrigins?: readonly string[]
  connectionsPerHost?: number
  connectMs?: number
  /** Name servers (`address` or `address:port`) for the names of strangers, instead of the system's. */
  nameservers?: readonly string[]
}

export interface HttpResponse {
  status: number
  headers: Record<string, string | string[] | undefined>
  /** Where the answer came from, after redirects. */
  url: URL
  /** Decompressed chunks. Iterate it to its end, or call `discard`. */
  body: AsyncIterable<Uint8Array>
  /** The whole body; with `maxBytes` the first so many, and the rest is not read. */
  bytes(maxBytes?: number): Promise<Buffer>
  /** Resolves when the body has ended, is too long to be worth its connection (128 KiB), or has come to a limit of time. Never rejects. */
  discard(): Promise<void>
}

export interface GetOptions {
  limits?: Partial<HttpLimits>
  signal?: AbortSignal
  headers?: Record<string, string>
  /** Waited for before a redirect is followed: the other host may have limits of its own. What it throws ends the request. */
  onRedirect?: (to: URL) => Promise<void>
}

const CONNECT_MS = 5_000
/** Of a connection without a request. A host may ask for more (`Keep-Alive: timeout=600`), and whoever has a wildcard domain has any number of hosts. */
const IDLE_MS = 4_000
/**
 * Of a body, that may wait for us. A host may send each byte as a piece of its own, and a piece takes 125 bytes beside what is in it. Smaller ones make honest bodies
 * dearer; with 64 KiB, and as much again before the decoder, 100 kB of a host held 16 MB.
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
    }
    this.#guarded = new Agent({ ...shared, connect: { timeout, lookup } })
    this.#open = new Agent({ ...shared, connect: { timeout } })
  }

  /**
   * The answer of `url`, whatever its status, after redirects.
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

/** Who may have any address and plain http. */
export interface Exempt {
  all: boolean
  /** As `URL.origin` writes them. */
  origins: ReadonlySet<string>
}

/**
 * How the last of `hops`, a request's URL and where redirects have led since, may be reached: `open` at any address, `guarded` at public ones by https.
 * An exempt origin counts only while all before it are exempt too: a stranger's redirect must not lead to what the operator named.
 * @throws RefusedError<HttpRefusal> when it may not be asked at all
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
  const body = paced(decompressed(answer), {
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
      // Not before: a body that drips would have no deadline.
      release()
    },
  }
}

function decompressed({ headers, body }: Dispatcher.ResponseData): AsyncIterable<Uint8Array> {
  const encoding = String(headers['content-encoding'] ?? 'identity').toLowerCase()
  if (encoding === 'identity') return body
  const createDecoder = decoderOf(encoding)
  if (createDecoder === undefined) {
    letGo(body)
    throw refuse('http-bad-encoding', encoding.slice(0, 100))
  }
  return decoded(body, createDecoder)
}

/** Nothing is read before somebody asks. */
async function* decoded(body: Readable, createDecoder: () => Transform): AsyncGenerator<Uint8Array> {
  try {
    // The decoder's own iterator reports an error of either stream; the callback is only there because one is needed.
    yield* pipeline(joined(body), createDecoder(), () => undefined) as AsyncIterable<Uint8Array>
  } finally {
    letGo(body)
  }
}

/** All that waits, as one piece: a decoder takes them one by one, each on another thread. */
async function* joined(body: Readable): AsyncGenerator<Uint8Array> {
  yield* body as AsyncIterable<Uint8Array>
}

/** Or it would keep its connection for as long as its host likes, once there is no deadline any more. */
function letGo(body: Readable): void {
  body.on('error', () => undefined).destroy()
}

function decoderOf(encoding: string): (() => Transform) | undefined {
  switch (encoding) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip
    case 'deflate':
      return createInflate
    default:
      return undefined
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
