/**
 * The sync endpoints of hosts: `com.atproto.sync.{listRepos, listReposByCollection, listHosts, getRepo, getRepoStatus,
 * getLatestCommit}`.
 *
 * The type of an error says what to do. `RateLimitedError` (a TransientError): leave the host alone for `retryAfterMs`.
 * Other TransientError: try again. `XrpcRefusedError`: the host's definite answer, with a reason from a closed list.
 *
 * An error of XRPC is JSON with its name in `error`, a constant in ASCII without whitespace. A 4xx without that, or a
 * 200 that is no JSON where that was asked for, is no word of the host: a proxy or a CDN in front of it speaks, a
 * portal, or whoever has its domain by now. So do web frameworks of paths that they do not know (`{"error":"Not
 * Found"}`). It is a `NotXrpcError`, which is a TransientError: an outage, of which nothing follows for what was asked.
 * But a host may always answer so, so whoever counts tries counts these. https://atproto.com/specs/xrpc#error-responses
 */
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { accountStatus } from './account-status.ts'
import type { GetOptions, HttpClient, HttpLimits, HttpResponse } from './http.ts'
import { rateLimitOf, retryAfterOf, type RateLimit } from './rate-limit.ts'

export const XRPC_REFUSALS = [
  'repo-not-found',
  'repo-takendown',
  'repo-suspended',
  'repo-deactivated',
  'not-implemented', // also "disabled for new repositories": ask again after 12 hours or more
  'unauthorized',
  'xrpc-refused', // any other 4xx with the name of an error
  'xrpc-bad-response',
] as const
export type XrpcRefusal = (typeof XRPC_REFUSALS)[number]

/** A Map, not an object: the host chooses the error's name, and an object has properties such as `constructor`. */
const REASON_OF_ERROR: ReadonlyMap<string, XrpcRefusal> = new Map([
  ['RepoNotFound', 'repo-not-found'],
  ['RepoTakendown', 'repo-takendown'],
  ['RepoSuspended', 'repo-suspended'],
  ['RepoDeactivated', 'repo-deactivated'],
  ['MethodNotImplemented', 'not-implemented'],
])

/** The host answered with a definite error. */
export class XrpcRefusedError extends RefusedError<XrpcRefusal> {
  override name = 'XrpcRefusedError'
  readonly status: number
  /** The beginning of the error's name as the host wrote it. Undefined: the host gave none. */
  readonly error: string | undefined
  constructor(reason: XrpcRefusal, detail: string, { status, error }: { status: number; error?: string }) {
    super(reason, detail)
    this.status = status
    this.error = error
  }
}

/** Somebody answers in place of the host: see above. */
export class NotXrpcError extends TransientError {
  override name = 'NotXrpcError'
}

/** Status 429: the host is at its limit, whatever is asked of it. */
export class RateLimitedError extends TransientError {
  override name = 'RateLimitedError'
}

export interface ListedRepo {
  did: string
  head: string
  rev: string
  /** Absent means active. */
  active?: boolean
  status?: string
}

export interface ListedHost {
  hostname: string
  status?: string
}

export interface Page<T> {
  items: T[]
  /** Opaque. Undefined after the last page, also when the host sends ''. */
  cursor: string | undefined
  /** How many invalid items were left out. */
  refused: number
}

export interface RepoStatus {
  did: string
  active: boolean
  status?: string
  rev?: string
}

export interface CallOptions {
  signal?: AbortSignal
  limits?: Partial<HttpLimits>
  onRedirect?: GetOptions['onRedirect']
}

export interface XrpcOptions {
  /**
   * Called with the limits that a host (an origin) states with each answer. After a redirect, `host` is the host that
   * answered.
   */
  onRateLimit?: (host: string, rateLimit: RateLimit) => void
}

/** Limits for the export of a whole repository. The largest are 300 MB and take minutes. */
const REPO_LIMITS = { totalMs: 300_000, bytes: 2 ** 31, bytesPerSecond: 2_000 } as const

/** How long to leave a host alone that answers 429 without a time. */
const DEFAULT_RETRY_MS = 60_000
/**
 * The shortest wait after a 429. A host may say 0, or a time in the past: without this it would be asked again at once,
 * for ever.
 */
const LEAST_RETRY_MS = 1_000
/** How much of an error's body is read. */
const ERROR_BYTES = 64 * 1024
/** How much of the error's name and message is kept. */
const ERROR_CHARS = 200
/** The form of an error's name: "generic ASCII constant, no whitespace". */
const ERROR_NAME = /^[!-~]+$/
/** A name of 253 characters, a scheme and a port. */
const HOST_CHARS = 270
/** The longest cursor that is accepted: far longer than a DID, a time or a number, which hosts use as cursors. */
const CURSOR_CHARS = 2_048

export class XrpcClient {
  readonly #http: HttpClient
  readonly #onRateLimit: (host: string, rateLimit: RateLimit) => void

  constructor(http: HttpClient, { onRateLimit = () => undefined }: XrpcOptions = {}) {
    this.#http = http
    this.#onRateLimit = onRateLimit
  }

  /** Fetches a page of up to 1,000 repositories of `host` (a URL with scheme). */
  async listRepos(
    host: string,
    query: { cursor?: string; limit?: number } = {},
    options?: CallOptions,
  ): Promise<Page<ListedRepo>> {
    return this.#page(host, 'com.atproto.sync.listRepos', 'repos', query, listedRepo, options)
  }

  /** Fetches a page of the accounts that have records of a collection, as far as the host knows. */
  async listReposByCollection(
    host: string,
    query: { collection: string; cursor?: string; limit?: number },
    options?: CallOptions,
  ): Promise<Page<{ did: string }>> {
    return this.#page(host, 'com.atproto.sync.listReposByCollection', 'repos', query, listedDid, options)
  }

  /** Fetches a page of the hosts that a relay knows. */
  async listHosts(
    host: string,
    query: { cursor?: string; limit?: number } = {},
    options?: CallOptions,
  ): Promise<Page<ListedHost>> {
    return this.#page(host, 'com.atproto.sync.listHosts', 'hosts', query, listedHost, options)
  }

  /** Fetches the status of an account as the host states it. */
  async getRepoStatus(host: string, did: string, options?: CallOptions): Promise<RepoStatus> {
    const answer = await this.#json(host, 'com.atproto.sync.getRepoStatus', { did }, options)
    const { active, status, rev } = answer
    if (answer.did !== did || typeof active !== 'boolean') throw badResponse('getRepoStatus', host)
    return { did, active, ...accountStatus(status), ...only({ rev }, 'string') }
  }

  /** Fetches the CID and rev of a repository's head. */
  async getLatestCommit(host: string, did: string, options?: CallOptions): Promise<{ cid: string; rev: string }> {
    const answer = await this.#json(host, 'com.atproto.sync.getLatestCommit', { did }, options)
    if (typeof answer.cid !== 'string' || typeof answer.rev !== 'string') throw badResponse('getLatestCommit', host)
    return { cid: answer.cid, rev: answer.rev }
  }

  /** Fetches a repository's export as a stream of bytes, within `REPO_LIMITS`. Not verified: see `repo-export.ts`. */
  async getRepo(host: string, did: string, options: CallOptions = {}): Promise<HttpResponse> {
    options = { ...options, limits: { ...REPO_LIMITS, ...options.limits } }
    return this.#call(host, 'com.atproto.sync.getRepo', { did }, options, 'application/vnd.ipld.car')
  }

  async #page<T>(
    host: string,
    nsid: string,
    key: string,
    query: Record<string, string | number | undefined>,
    itemOf: (item: Record<string, unknown>) => T | undefined,
    options: CallOptions | undefined,
  ): Promise<Page<T>> {
    const answer = await this.#json(host, nsid, query, options)
    const list = answer[key]
    const { cursor } = answer
    if (!Array.isArray(list) || (cursor !== undefined && typeof cursor !== 'string')) throw badResponse(nsid, host)
    // The cursor is stored in Redis, and sent back to the host in a URL.
    if (cursor !== undefined && cursor.length > CURSOR_CHARS) throw badResponse(nsid, host)
    const items = list.flatMap((item: unknown) => itemOf((item ?? {}) as Record<string, unknown>) ?? [])
    return { items, cursor: cursor === '' ? undefined : cursor, refused: list.length - items.length }
  }

  async #json(host: string, nsid: string, query: Record<string, string | number | undefined>, options?: CallOptions) {
    const response = await this.#call(host, nsid, query, options, 'application/json')
    const answer = parseJson(await response.bytes())
    if (answer === undefined) throw new NotXrpcError(`${nsid} at ${response.url.host}: 200, and no JSON`)
    if (!isObject(answer)) throw badResponse(nsid, host)
    return answer
  }

  async #call(
    host: string,
    nsid: string,
    query: Record<string, string | number | undefined>,
    options: CallOptions = {},
    accept: string,
  ): Promise<HttpResponse> {
    const url = new URL(`/xrpc/${nsid}`, host)
    for (const [key, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(key, String(value))
    const response = await this.#http.get(url, { ...options, headers: { accept } })
    const rateLimit = rateLimitOf(response.headers, Date.now())
    if (rateLimit !== undefined) this.#onRateLimit(response.url.origin, rateLimit)
    if (response.status === 200) return response
    throw await failureOf(response, nsid, rateLimit)
  }
}

async function failureOf(response: HttpResponse, nsid: string, rateLimit: RateLimit | undefined): Promise<Error> {
  const { status, url } = response
  // Limited by ERROR_BYTES and not by the request's own limit: an error page must not be as large as a repository.
  const body = parseJson(await response.bytes(ERROR_BYTES).catch(() => Buffer.alloc(0)))
  const answer = isObject(body) ? body : {}
  const error = typeof answer.error === 'string' ? answer.error.slice(0, ERROR_CHARS) : undefined
  const text = typeof answer.message === 'string' ? answer.message.slice(0, ERROR_CHARS) : ''
  const detail = `${nsid} at ${url.host}: ${status} ${error ?? ''} ${text}`.trim()
  const retryAfterMs = retryAfterOf(response.headers, Date.now())
  if (status === 429) {
    const waitMs = retryAfterMs ?? rateLimit?.resetMs ?? DEFAULT_RETRY_MS
    return new RateLimitedError(detail, { retryAfterMs: Math.max(LEAST_RETRY_MS, waitMs) })
  }
  if (status === 501) return new XrpcRefusedError('not-implemented', detail, { status, error })
  if (status >= 500 || status < 400 || status === 408) return new TransientError(detail, { retryAfterMs })
  if (error === undefined || !ERROR_NAME.test(error)) return new NotXrpcError(detail, { retryAfterMs })
  const named = REASON_OF_ERROR.get(error)
  if (named !== undefined) return new XrpcRefusedError(named, detail, { status, error })
  if (status === 401 || status === 403) return new XrpcRefusedError('unauthorized', detail, { status, error })
  return new XrpcRefusedError('xrpc-refused', detail, { status, error })
}

/** The parsed JSON, or undefined when the bytes are no JSON. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function listedRepo({ did, head, rev, active, status }: Record<string, unknown>): ListedRepo | undefined {
  if (typeof did !== 'string' || typeof head !== 'string' || typeof rev !== 'string') return undefined
  return { did, head, rev, ...only({ active }, 'boolean'), ...accountStatus(status) }
}

function listedDid({ did }: Record<string, unknown>): { did: string } | undefined {
  return typeof did === 'string' ? { did } : undefined
}

function listedHost({ hostname, status }: Record<string, unknown>): ListedHost | undefined {
  if (typeof hostname !== 'string' || hostname.length > HOST_CHARS) return undefined
  return { hostname, ...only({ status }, 'string') }
}

interface Types {
  string: string
  boolean: boolean
}

/** The fields whose values have the given type. A value of another type is treated as absent, as in frames. */
function only<K extends string, T extends keyof Types>(fields: Record<K, unknown>, type: T): { [P in K]?: Types[T] } {
  const good = Object.entries(fields).filter(([, value]) => typeof value === type)
  return Object.fromEntries(good) as { [P in K]?: Types[T] }
}

function badResponse(nsid: string, host: string): XrpcRefusedError {
  return new XrpcRefusedError('xrpc-bad-response', `${nsid} at ${host}: not what the lexicon says`, { status: 200 })
}
