/**
 * The sync endpoints of hosts: `com.atproto.sync.{listRepos, listReposByCollection, listHosts, getRepo, getRepoStatus, getLatestCommit}`.
 *
 * Errors say what to do: `RateLimitedError` (a TransientError) parks the host until `retryAfterMs`; a TransientError is
 * tried again; an `XrpcRefusedError` is the host's definite answer, with a reason from a closed list.
 *
 * An error of XRPC is JSON with its name in `error`. A 4xx without that, or a 200 that is no JSON where that was asked for, is no word of the host: a proxy or a CDN in front of
 * it speaks, a portal, or whoever has its domain by now. It is a `NotXrpcError`, which is a TransientError: an outage, of which nothing follows for what was asked. But a host
 * may always answer so, so whoever counts tries counts these. https://atproto.com/specs/xrpc#error-responses
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

/** Not an object, which has a `constructor`: the name is whatever a host writes. */
const REASON_OF_ERROR: ReadonlyMap<string, XrpcRefusal> = new Map([
  ['RepoNotFound', 'repo-not-found'],
  ['RepoTakendown', 'repo-takendown'],
  ['RepoSuspended', 'repo-suspended'],
  ['RepoDeactivated', 'repo-deactivated'],
  ['MethodNotImplemented', 'not-implemented'],
])

/** A host's definite answer that is not what was asked for. */
export class XrpcRefusedError extends RefusedError<XrpcRefusal> {
  override name = 'XrpcRefusedError'
  readonly status: number
  /** The error's name as the host wrote it, when it did; the beginning of it. */
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

/** 429: the host, not the request, is at its limit. */
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
  seq?: number
  accountCount?: number
}

export interface Page<T> {
  items: T[]
  /** Opaque; absent after the last page, also of hosts that say '' there. */
  cursor: string | undefined
  /** Items that were not what they should be, and left out. */
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
  /** Told of the limits that a host (an origin) states with each answer; after a redirect it is the host that answered. */
  onRateLimit?: (host: string, rateLimit: RateLimit) => void
}

/** For a whole repository. The largest are 300 MB and take minutes. */
const REPO_LIMITS = { totalMs: 300_000, bytes: 2 ** 31, bytesPerSecond: 2_000 } as const

/** How long to leave a host alone that says 429 and not how long. */
const DEFAULT_RETRY_MS = 60_000
/** And at least, whatever it says: 0, and a time that is past, would be asked again at once, for ever. */
const LEAST_RETRY_MS = 1_000
/** Of an error's body. */
const ERROR_BYTES = 64 * 1024
/** Of the name and the message in it. */
const ERROR_CHARS = 200
/** A name of 253 characters, a scheme and a port. */
const HOST_CHARS = 270
/** Far more than a DID, a time or a number, which is what hosts hand out. */
const CURSOR_CHARS = 2_048

export class XrpcClient {
  readonly #http: HttpClient
  readonly #onRateLimit: (host: string, rateLimit: RateLimit) => void

  constructor(http: HttpClient, { onRateLimit = () => undefined }: XrpcOptions = {}) {
    this.#http = http
    this.#onRateLimit = onRateLimit
  }

  /** A page of up to 1,000 repositories of `host` (a URL with scheme). */
  async listRepos(
    host: string,
    query: { cursor?: string; limit?: number } = {},
    options?: CallOptions,
  ): Promise<Page<ListedRepo>> {
    return this.#page(host, 'com.atproto.sync.listRepos', 'repos', query, listedRepo, options)
  }

  /** A page of the accounts that have records of a collection, as far as the host knows. */
  async listReposByCollection(
    host: string,
    query: { collection: string; cursor?: string; limit?: number },
    options?: CallOptions,
  ): Promise<Page<{ did: string }>> {
    return this.#page(host, 'com.atproto.sync.listReposByCollection', 'repos', query, listedDid, options)
  }

  /** A page of the hosts that a relay knows. */
  async listHosts(
    host: string,
    query: { cursor?: string; limit?: number } = {},
    options?: CallOptions,
  ): Promise<Page<ListedHost>> {
    return this.#page(host, 'com.atproto.sync.listHosts', 'hosts', query, listedHost, options)
  }

  /** What the host says of an account. */
  async getRepoStatus(host: string, did: string, options?: CallOptions): Promise<RepoStatus> {
    const answer = await this.#json(host, 'com.atproto.sync.getRepoStatus', { did }, options)
    const { active, status, rev } = answer
    if (answer.did !== did || typeof active !== 'boolean') throw badResponse('getRepoStatus', host)
    return { did, active, ...accountStatus(status), ...only({ rev }, 'string') }
  }

  /** CID and revision of a repository's head. */
  async getLatestCommit(host: string, did: string, options?: CallOptions): Promise<{ cid: string; rev: string }> {
    const answer = await this.#json(host, 'com.atproto.sync.getLatestCommit', { did }, options)
    if (typeof answer.cid !== 'string' || typeof answer.rev !== 'string') throw badResponse('getLatestCommit', host)
    return { cid: answer.cid, rev: answer.rev }
  }

  /** The bytes of a repository's export, as they come, within `REPO_LIMITS`. Not verified: see `repo-export.ts`. */
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
    // It goes into Redis, and back to the host in a URL.
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
  // Not within the limits of what was asked for: an error page may not be as large as a repository.
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
  if (error === undefined) return new NotXrpcError(detail, { retryAfterMs })
  const named = REASON_OF_ERROR.get(error)
  if (named !== undefined) return new XrpcRefusedError(named, detail, { status, error })
  if (status === 401 || status === 403) return new XrpcRefusedError('unauthorized', detail, { status, error })
  return new XrpcRefusedError('xrpc-refused', detail, { status, error })
}

/** Undefined when it is no JSON. */
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

function listedHost({ hostname, status, seq, accountCount }: Record<string, unknown>): ListedHost | undefined {
  if (typeof hostname !== 'string' || hostname.length > HOST_CHARS) return undefined
  return { hostname, ...only({ status }, 'string'), ...only({ seq, accountCount }, 'number') }
}

interface Types {
  string: string
  number: number
  boolean: boolean
}

/** The optional fields that are of their type: what else a host puts there is as if it were not there, as in frames. */
function only<K extends string, T extends keyof Types>(fields: Record<K, unknown>, type: T): { [P in K]?: Types[T] } {
  const good = Object.entries(fields).filter(([, value]) => typeof value === type)
  return Object.fromEntries(good) as { [P in K]?: Types[T] }
}

function badResponse(nsid: string, host: string): XrpcRefusedError {
  return new XrpcRefusedError('xrpc-bad-response', `${nsid} at ${host}: not what the lexicon says`, { status: 200 })
}
