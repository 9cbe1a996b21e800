/**
 * Fetches one repository from one host into a store: within the host's limits, with every wait and every byte bounded.
 *
 * The permit of the host is given back as soon as the last byte has arrived, before anything is verified. A redirect
 * leads to another host, which needs a permit of its own.
 *
 * A web page instead of a CAR says nothing about the repository. Something answers in place of the host (a portal, a
 * new owner of the domain, a proxy in front of it), or the host is in trouble. An answer is a web page if its content
 * type says so and its body does not begin as a CAR does. A CAR whose content type is that of a web page is accepted as
 * a CAR.
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
  /** The longest time from the request to the last byte, at the first try. */
  fetchMs: number
  repoBytes: number
  spoolDir: string | undefined
}

export interface FetchContext {
  xrpc: XrpcClient
  limits: PdsLimits
  options: FetchOptions
  /** The disk space that the files of all repositories under way may take together. */
  disk: Budget
  onBytes: (bytes: number) => void
}

export interface FetchTarget {
  /** An origin, `https://host`. */
  url: string
  did: string
  /** How often the repository has failed so far: later tries may take longer. */
  attempts: number
}

export interface FetchedExport extends Disposable {
  store: CarStore
  /** When the host began to answer (ISO 8601). The export contains nothing that changed later. */
  time: string
}

/** The host answered 200 with a web page. */
class WebPageError extends TransientError {
  override name = 'WebPageError'
}

const FETCH_MS_MAX = 2 * 3_600_000

/**
 * Fetches an export. `permit` is given back in any case.
 * @throws RateLimitedError, TransientError, XrpcRefusedError, RefusedError<HttpRefusal | CarRefusal | CborRefusal>,
 * AbortError
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
 * The error to throw for `error` of a host that a redirect led to. If that host is at its limit, the error must not
 * stay a `RateLimitedError`: the repository would be the next one again at the host that redirects. That host is not
 * parked, so it would be asked for the repository again at once. As a `TransientError` it counts as a failure of the
 * repository.
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
      // Before the push, since the next block may double the index: up to 90 MB more.
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

/**
 * What a failure tells about the host. Any definite answer, whatever it says, means that the host works. A lack of room
 * here tells nothing.
 */
export function reportOf(error: unknown): Report {
  if (error instanceof RateLimitedError) return { verdict: 'limited', parkMs: error.retryAfterMs ?? 0 }
  if (error instanceof NoRoomError) return { verdict: 'nothing' }
  if (error instanceof TransientError) {
    // With a 5xx, too, the host may say when to come back.
    return { verdict: 'failed', ...(error.retryAfterMs !== undefined && { parkMs: error.retryAfterMs }) }
  }
  return { verdict: isAbort(error) ? 'nothing' : 'ok' }
}
