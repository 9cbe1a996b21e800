/**
 * One repository from one host, into a store: within the host's limits, with every wait and every byte bounded.
 *
 * The host's permit is given back as soon as the last byte has arrived, before anything is verified. A redirect leads to another
 * host, which needs a permit of its own.
 *
 * A web page instead of a CAR says nothing of the repository: somebody answers in place of the host (a portal, whoever has its domain by now, a proxy in front of it), or it
 * is in trouble. It is one by what its head says, and by its beginning: a CAR that is called a page is a CAR.
 */
import { blocksWithin } from '@sluice/atproto/block-index.ts'
import { CarStore } from '@sluice/atproto/car-store.ts'
import type { HttpResponse } from '@sluice/atproto/http.ts'
import { EXPORT_LIMITS } from '@sluice/atproto/repo-export.ts'
import { NoRoomError } from '@sluice/atproto/slabs.ts'
import { RateLimitedError, type XrpcClient } from '@sluice/atproto/xrpc.ts'
import type { Budget } from '@sluice/runtime/budget.ts'
import { isAbort, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { PdsLimits, Permit, Report } from './pds-limits.ts'
import type { RepoMemory } from './repo-memory.ts'

export interface FetchOptions {
  headersMs: number
  idleMs: number
  bytesPerSecond: number
  /** From the request to the last byte, at the first try. */
  fetchMs: number
  repoBytes: number
  spoolDir: string | undefined
}

export interface FetchContext {
  xrpc: XrpcClient
  limits: PdsLimits
  options: FetchOptions
  /** What the files of all repositories under way may take together. */
  disk: Budget
  onBytes: (bytes: number) => void
}

export interface FetchTarget {
  /** An origin, `https://host`. */
  url: string
  did: string
  /** How often it failed so far: later tries may take longer. */
  attempts: number
}

export interface FetchedExport extends Disposable {
  store: CarStore
  /** When the host began to answer (ISO 8601): everything it did later is not in there. */
  time: string
}

/** 200, and a web page. */
export class WebPageError extends TransientError {
  override name = 'WebPageError'
}

const FETCH_MS_MAX = 2 * 3_600_000

/**
 * Fetches; `permit` is given back in any case.
 * @throws RateLimitedError, TransientError, XrpcRefusedError, RefusedError<HttpRefusal | CarRefusal | CborRefusal>, AbortError
 */
export async function fetchExport(
  context: FetchContext,
  target: FetchTarget,
  { permit, memory, signal }: { permit: Permit; memory: RepoMemory; signal: AbortSignal },
): Promise<FetchedExport> {
  let held = permit
  const onRedirect = async (to: URL): Promise<void> => {
    if (to.host === held.host) {
      await context.limits.wait(to.host, signal, { slot: false })
      return
    }
    await held.release({ verdict: 'ok' })
    held = await context.limits.wait(to.host, signal)
  }
  try {
    const fetched = await download(context, target, { memory, signal, onRedirect })
    await held.release({ verdict: 'ok' })
    return fetched
  } catch (error) {
    await held.release({ ...reportOf(error), repo: target.did })
    throw held.host === permit.host ? error : ofAnother(error)
  }
}

/**
 * The host that a redirect led to may be at its limit. To us it is a failure of the one that sent us there: that one is not parked, and the repository
 * would be asked for again at once.
 */
function ofAnother(error: unknown): unknown {
  if (!(error instanceof RateLimitedError)) return error
  const { message, retryAfterMs } = error
  return new TransientError(`after a redirect: ${message}`, { cause: error, retryAfterMs })
}

interface Download {
  memory: RepoMemory
  signal: AbortSignal
  onRedirect: (to: URL) => Promise<void>
}

async function download(context: FetchContext, target: FetchTarget, { memory, signal, onRedirect }: Download) {
  const { headersMs, idleMs, bytesPerSecond, repoBytes, spoolDir } = context.options
  const totalMs = Math.min(FETCH_MS_MAX, context.options.fetchMs * 2 ** Math.min(target.attempts, 20))
  const spool = {
    mayKeep: (bytes: number) => memory.mayKeep(bytes),
    disk: context.disk,
    ...(spoolDir !== undefined && { folder: spoolDir }),
  }
  const response = await context.xrpc.getRepo(target.url, target.did, {
    signal,
    limits: { headersMs, idleMs, bytesPerSecond, totalMs, bytes: repoBytes },
    onRedirect,
  })
  const time = new Date().toISOString()
  const blocks = Math.min(EXPORT_LIMITS.blocks, blocksWithin(memory.indexBytesMax))
  const store = new CarStore({ ...EXPORT_LIMITS, blocks, bytes: repoBytes }, spool)
  try {
    for await (const chunk of response.body) {
      context.onBytes(chunk.length)
      // First: with the next block the index may double, by 90 MB.
      await memory.hold(store.memoryBytes - store.indexBytes + store.indexBytesAfter(chunk.length), signal)
      store.push(chunk)
      await memory.hold(store.memoryBytes, signal)
    }
    if (isPage(response) && !store.hasHeader) throw webPage(response)
  } catch (error) {
    store[Symbol.dispose]()
    throw error instanceof RefusedError && isPage(response) && !store.hasHeader ? webPage(response, error) : error
  }
  return { store, time, [Symbol.dispose]: () => store[Symbol.dispose]() }
}

function isPage({ headers }: HttpResponse): boolean {
  return /^\s*(?:text\/html|application\/xhtml\+xml)\b/i.test(String(headers['content-type'] ?? ''))
}

function webPage({ url }: HttpResponse, cause?: unknown): WebPageError {
  return new WebPageError(`${url.host} answers with a web page instead of a repository`, { cause })
}

/** What a failure says of the host. A definite answer, whatever it is, means that the host works; that we have no room means nothing. */
export function reportOf(error: unknown): Report {
  if (error instanceof RateLimitedError) return { verdict: 'limited', parkMs: error.retryAfterMs ?? 0 }
  if (error instanceof NoRoomError) return { verdict: 'nothing' }
  if (error instanceof TransientError) {
    // With a 5xx it may say when to come back, as with a 429.
    return { verdict: 'failed', ...(error.retryAfterMs !== undefined && { parkMs: error.retryAfterMs }) }
  }
  return { verdict: isAbort(error) ? 'nothing' : 'ok' }
}
