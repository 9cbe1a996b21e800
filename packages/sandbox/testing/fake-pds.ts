/**
 * A PDS that a test controls: real signed repositories over real HTTP on loopback. It can be slow, cut connections,
 * refuse requests over its limits, be dead, or state any status for its accounts. Any number of them run in one
 * process, each for the price of a socket.
 *
 * It serves `com.atproto.sync.{getRepo, getRepoStatus, getLatestCommit, listRepos}` and records all requests: their
 * times, how many ran at once, and whether a client went on asking after a 429. `fake-network.ts` joins many with a
 * directory.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { createGzip, type Gzip } from 'node:zlib'
import { formatCid } from '@sluice/atproto/cid.ts'
import type { FakeAccount, Fault } from './fake-account.ts'
import { LOOPBACK } from '../loopback.ts'
import { freePort, releasePort } from '../ports.ts'

/** How a host behaves towards all clients. May be changed at any time. */
export interface PdsManners {
  /** The wait before each answer. */
  latencyMs: number
  /** The speed of a repository's body. 0: no limit. */
  bytesPerSecond: number
  /** How many requests a window allows; further ones are answered with 429. 0: no limit. */
  requests: number
  windowMs: number
  /** How the host states its limit: RateLimit headers, Retry-After on the 429, or only an HTML page. */
  tells: 'ratelimit' | 'retry-after' | 'nothing'
  /** `cuts`: the host accepts connections and closes them. `hangs`: it accepts them and never answers. */
  mood: 'well' | 'cuts' | 'hangs'
  /**
   * The end of each repository's body waits for this promise. So a test decides how long a fetch is under way, without
   * timers.
   */
  hold: Promise<void> | undefined
}

const MANNERS: PdsManners = {
  latencyMs: 0,
  bytesPerSecond: 0,
  requests: 0,
  windowMs: 300_000,
  tells: 'ratelimit',
  mood: 'well',
  hold: undefined,
}

export interface Asked {
  /** Unix ms. */
  atMs: number
  method: string
  did: string
}

const CHUNK_BYTES = 16 * 1024

export class FakePds implements AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  /** `127.0.0.1:<port>` */
  readonly host: string
  readonly manners: PdsManners
  readonly accounts = new Map<string, FakeAccount>()
  /** All requests so far, in order. */
  readonly asked: Asked[] = []
  /** How many requests were answered with 429 because of the limit. */
  refused = 0
  /** How many requests came during a pause that an earlier 429 had asked for. */
  ignored = 0
  /** The largest number of requests that were under way at once. */
  busiest = 0
  #busy = 0
  #window = { startMs: 0, requests: 0 }
  #closedUntilMs = 0
  readonly #port: number
  readonly #server: Server

  private constructor(port: number, manners: Partial<PdsManners>) {
    this.#port = port
    this.host = `${LOOPBACK}:${port}`
    this.url = `http://${this.host}`
    this.manners = { ...MANNERS, ...manners }
    this.#server = createServer({ keepAliveTimeout: 30_000 }, (request, response) => {
      // The client may be disconnected while the host answers; then there is nothing more to send.
      this.#serve(request, response).catch(() => response.destroy())
    })
    this.#server.on('connection', (socket) => {
      socket.on('error', () => undefined)
      if (this.manners.mood === 'cuts') socket.destroy()
    })
  }

  static async start(manners: Partial<PdsManners> = {}): Promise<FakePds> {
    const pds = new FakePds(await freePort(), manners)
    pds.#server.listen(pds.#port, LOOPBACK)
    await once(pds.#server, 'listening')
    return pds
  }

  /** Stops listening. The port stays reserved. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    releasePort(this.#port)
  }

  /** The largest number of requests in any period of `ms`. */
  busiestWithin(ms: number): number {
    const times = this.asked.map(({ atMs }) => atMs)
    let most = 0
    for (let first = 0, last = 0; last < times.length; last++) {
      while (times[last]! - times[first]! >= ms) first++
      most = Math.max(most, last - first + 1)
    }
    return most
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url)
    const method = url.pathname.slice('/xrpc/'.length)
    const did = url.searchParams.get('did') ?? ''
    this.asked.push({ atMs: Date.now(), method, did })
    if (this.manners.mood === 'hangs') return
    this.busiest = Math.max(this.busiest, ++this.#busy)
    response.on('close', () => this.#busy--)
    const limit = this.#count()
    if (this.manners.latencyMs > 0) await delay(this.manners.latencyMs)
    if (limit.isOver) return this.#tooMany(response)
    for (const [name, value] of limit.headers) response.setHeader(name, value)
    switch (method) {
      case 'com.atproto.sync.getRepo':
        return this.#getRepo(this.accounts.get(did), request, response)
      case 'com.atproto.sync.getRepoStatus':
        return this.#getRepoStatus(this.accounts.get(did), response)
      case 'com.atproto.sync.getLatestCommit':
        return this.#getLatestCommit(this.accounts.get(did), response)
      case 'com.atproto.sync.listRepos':
        return this.#listRepos(url.searchParams, response)
      default:
        return sendError(response, 501, 'MethodNotImplemented')
    }
  }

  #count(): { isOver: boolean; headers: [string, string][] } {
    const { requests, windowMs, tells } = this.manners
    if (requests === 0) return { isOver: false, headers: [] }
    const nowMs = Date.now()
    if (nowMs < this.#closedUntilMs && tells !== 'nothing') this.ignored++
    if (nowMs - this.#window.startMs >= windowMs) this.#window = { startMs: nowMs, requests: 0 }
    this.#window.requests++
    const isOver = this.#window.requests > requests
    const resetSeconds = Math.ceil((this.#window.startMs + windowMs) / 1000)
    const headers: [string, string][] = [
      ['ratelimit-limit', String(requests)],
      ['ratelimit-remaining', String(Math.max(0, requests - this.#window.requests))],
      ['ratelimit-reset', String(resetSeconds)],
    ]
    return { isOver, headers: tells === 'ratelimit' ? headers : [] }
  }

  #tooMany(response: ServerResponse): void {
    this.refused++
    const endMs = this.#window.startMs + this.manners.windowMs
    const { tells } = this.manners
    if (tells === 'nothing') {
      response.writeHead(429, { 'content-type': 'text/html' }).end('<html><h1>Too many requests</h1></html>')
      return
    }
    const seconds = Math.max(1, Math.ceil((endMs - Date.now()) / 1000))
    // Requests that were sent before this 429 arrived do not count as ignoring it.
    this.#closedUntilMs = endMs
    if (tells === 'retry-after') response.setHeader('retry-after', String(seconds))
    else response.setHeader('ratelimit-reset', String(seconds))
    sendError(response, 429, 'RateLimitExceeded')
  }

  async #getRepo(account: FakeAccount | undefined, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (account === undefined) return sendError(response, 400, 'RepoNotFound')
    const fault = account.takeFault(this)
    if (fault?.kind === 'status') return sendFault(response, fault)
    if (fault?.kind === 'page') {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(fault.body)
      return
    }
    if (fault?.kind === 'redirect') {
      response.writeHead(302, { location: `${fault.to}${request.url}` }).end()
      return
    }
    if (account.status !== undefined) return sendError(response, 400, REPO_ERRORS[account.status] ?? 'RepoDeactivated')
    account.served++
    const isZipped = /\bgzip\b/.test(String(request.headers['accept-encoding']))
    response.writeHead(200, {
      'content-type': 'application/vnd.ipld.car',
      ...(isZipped && { 'content-encoding': 'gzip' }),
    })
    const zip = isZipped ? createGzip({ level: 1 }) : undefined
    zip?.pipe(response)
    await this.#sendBody(account.car(), { fault, response, out: zip ?? response })
  }

  /**
   * Sends a repository's body. Faults count bytes before compression; the bytes before a fault are flushed to the
   * client.
   */
  async #sendBody(
    car: Buffer,
    { fault, response, out }: { fault: Fault | undefined; response: ServerResponse; out: Gzip | ServerResponse },
  ): Promise<void> {
    const endsAt = fault && 'afterBytes' in fault ? Math.min(fault.afterBytes, car.length) : car.length
    const bytesPerSecond = fault?.kind === 'slow' ? fault.bytesPerSecond : this.manners.bytesPerSecond
    const stepBytes =
      bytesPerSecond > 0 ? Math.max(1, Math.min(CHUNK_BYTES, Math.ceil(bytesPerSecond / 20))) : CHUNK_BYTES
    for (let at = 0; at < endsAt && !response.destroyed; at += stepBytes) {
      if (!out.write(car.subarray(at, Math.min(at + stepBytes, endsAt)))) await drained(out, response)
      if (bytesPerSecond > 0) await delay((stepBytes * 1000) / bytesPerSecond)
    }
    await this.manners.hold
    if (response.destroyed) return
    switch (fault?.kind) {
      case 'stall':
        if ('flush' in out) out.flush()
        return
      case 'cut':
        if ('flush' in out) await new Promise<void>((resolve) => out.flush(resolve))
        await delay(20)
        response.destroy()
        return
      default:
        out.end()
    }
  }

  #getRepoStatus(account: FakeAccount | undefined, response: ServerResponse): void {
    if (account === undefined) return sendError(response, 400, 'RepoNotFound')
    const { did, status, repo } = account
    sendJson(response, { did, active: status === undefined, ...(status !== undefined && { status }), rev: repo.rev })
  }

  #getLatestCommit(account: FakeAccount | undefined, response: ServerResponse): void {
    if (account?.repo.commit === undefined) return sendError(response, 400, 'RepoNotFound')
    sendJson(response, { cid: formatCid(account.repo.commit), rev: account.repo.rev })
  }

  #listRepos(query: URLSearchParams, response: ServerResponse): void {
    const limit = Number(query.get('limit') ?? 500)
    const cursor = query.get('cursor') ?? ''
    const all = [...this.accounts.values()].sort((a, b) => (a.did < b.did ? -1 : 1)).filter(({ did }) => did > cursor)
    const page = all.slice(0, limit)
    const repos = page.map(({ did, status, repo }) => ({
      did,
      head: repo.commit === undefined ? '' : formatCid(repo.commit),
      rev: repo.rev,
      active: status === undefined,
      ...(status !== undefined && { status }),
    }))
    sendJson(response, { ...(page.length < all.length && { cursor: page.at(-1)!.did }), repos })
  }
}

const REPO_ERRORS: Record<string, string> = {
  takendown: 'RepoTakendown',
  suspended: 'RepoSuspended',
  deactivated: 'RepoDeactivated',
}

async function drained(out: Gzip | ServerResponse, response: ServerResponse): Promise<void> {
  const end = new AbortController()
  const { signal } = end
  await Promise.race([once(out, 'drain', { signal }), once(response, 'close', { signal })])
  end.abort()
}

function sendFault(response: ServerResponse, { status, error, headers, message }: Fault & { kind: 'status' }): void {
  for (const [name, value] of Object.entries(headers ?? {})) response.setHeader(name, value)
  if (error === undefined) response.writeHead(status, { 'content-type': 'text/html' }).end(`<html>${status}</html>`)
  else sendError(response, status, error, message)
}

function sendError(response: ServerResponse, status: number, error: string, message = error): void {
  sendJson(response, { error, message }, status)
}

function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}
