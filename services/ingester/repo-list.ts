/**
 * Lists the repositories of one host, page by page, and requests those that are wanted. A page's requests, the chain
 * records that remember them, and the cursor move in one step. The cursor is the host's own and never made up. After
 * the last page it is `!ingester-done`.
 *
 * When the host does not know the cursor any more, the listing begins at the start again: at once when the host refuses
 * the cursor, after hours when the host only fails on it (`stuck-cursor.ts`).
 */
import { NotXrpcError, RateLimitedError, type ListedRepo, type Page, type XrpcClient } from '@sluice/atproto/xrpc.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { retry, type BackoffPolicy, type Retry } from '@sluice/runtime/backoff.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { remember } from '@sluice/runtime/remember.ts'
import { moveChains, readChains } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { INGESTER_DONE, readCursor } from '@sluice/streams/cursors.ts'
import { CursorConflictError, StateConflictError, type Producer } from '@sluice/streams/producer.ts'
import { isInShard } from '@sluice/streams/spread.ts'
import { considerListing, type ListingDecision, type ListingOptions } from './listing.ts'
import { StuckCursor } from './stuck-cursor.ts'

export interface RepoListOptions {
  redis: Redis
  xrpc: Pick<XrpcClient, 'listRepos'>
  producer: Producer<BackfillEvent>
  /** Where the host answers: a URL with scheme. */
  url: string
  cursorKey: string
  stuckKey: string
  /** Asked anew for each page. */
  listing: () => Omit<ListingOptions, 'nowMs'>
  /** After so many failures in a row the host is given up for now. Default: never. */
  triesMax?: number
  /**
   * A host that has not come to its end after so many pages is given up for now; the next time it goes on at its
   * cursor. Default: never.
   */
  pagesMax?: number
  /**
   * The same for a host whose answers took so long in all. What we wait for ourselves does not count. Default: never.
   */
  answersMs?: number
  backoff?: BackoffPolicy
  onPage: (decision: ListingDecision) => void | Promise<void>
  onWait: (retry: Retry) => void
  /**
   * The host has failed on a cursor for hours, but lists from the start, so its listing begins anew: for the `times`th
   * time since it last came to its end.
   */
  onAnew: (times: number, error: TransientError) => void
}

const PAGE = 1_000
/**
 * How many cursors are remembered. A Redis that has gone back in time has lost seconds, after a failover perhaps
 * minutes.
 */
const PASSED = 1_000
const BACKOFF: BackoffPolicy = { baseMs: 1_000, capMs: 60_000, healthyAfterMs: 0 }
/**
 * How many answers in a row may be no XRPC. The relay may have no such method, or a web page is in front of it. These
 * tries take seconds, so that the page of a proxy whose host is starting is waited out.
 */
const NOT_XRPC_TRIES = 4

/**
 * Lists from the stored cursor. Lists from the start when there is none, when the last listing came to its end, or when
 * the host refuses the cursor. When Redis has gone back in time, goes on from the cursor that it holds.
 * @throws RefusedError when the host will not list, or not so that we accept it; GivenUpError; AbortError on the signal
 */
export async function listRepos(options: RepoListOptions, signal: AbortSignal): Promise<void> {
  const { redis, cursorKey: key, url, pagesMax = Infinity, answersMs = Infinity } = options
  const stuck = new StuckCursor(redis, options.stuckKey)
  /** The cursors of the latest pages, each with the number of its page. */
  const passed = new Map<string, number>()
  let stored = await readCursor(redis, key)
  let answeredMs = 0
  for (let pages = 0; pages < pagesMax; pages++) {
    if (answeredMs > answersMs)
      throw new GivenUpError(`${url}: no end after ${pages} pages, which took ${Math.round(answeredMs / 1_000)} s`)
    const cursor = stored === null || stored === INGESTER_DONE ? undefined : stored
    const began = performance.now()
    const page = await (pages === 0 ? firstPage : fetchPage)(options, stuck, cursor, signal)
    answeredMs += performance.now() - began
    if (stored !== null) remember(passed, stored, pages, PASSED)
    const next = page.cursor ?? INGESTER_DONE
    try {
      await options.onPage(await store(options, page.items, { key, from: stored, to: next }, signal))
    } catch (error) {
      // Redis has gone back to a cursor where we have been: we go on from there. Another ingester would have moved the
      // cursor to one where we have not been.
      const isRewind = error instanceof CursorConflictError && (error.found === null || passed.has(error.found))
      if (!isRewind) throw error
      stored = error.found
      continue
    }
    stored = next
    if (page.cursor === undefined) return await stuck.ended()
    await stuck.moved()
  }
  throw new GivenUpError(`${url}: no end after ${pagesMax} pages`)
}

/**
 * The page at the stored cursor, or the first page when the host does not take that cursor. The host's software may be
 * another by now, which would refuse a cursor of the former one in every pass to come.
 */
async function firstPage(
  options: RepoListOptions,
  stuck: StuckCursor,
  cursor: string | undefined,
  signal: AbortSignal,
): Promise<Page<ListedRepo>> {
  try {
    return await fetchPage(options, stuck, cursor, signal)
  } catch (error) {
    if (cursor === undefined) throw error
    if (error instanceof RefusedError) return await fetchPage(options, stuck, undefined, signal)
    // Relays in Go refuse a cursor with JSON that is no XRPC error. If a page in front of the relay has answered
    // instead, it answers the request for the first page too.
    if (isNotXrpc(error)) return await fetchPage({ ...options, triesMax: 1 }, stuck, undefined, signal)
    throw error
  }
}

async function fetchPage(
  options: RepoListOptions,
  stuck: StuckCursor,
  cursor: string | undefined,
  signal: AbortSignal,
): Promise<Page<ListedRepo>> {
  const { url, triesMax = Infinity, backoff = BACKOFF, onWait } = options
  const ask = async (): Promise<Page<ListedRepo>> => {
    try {
      return await askPage(options, cursor, signal)
    } catch (error) {
      if (cursor === undefined || !isOfCursor(error)) throw error
      return await askInstead(options, stuck, { cursor, error }, signal)
    }
  }
  return retry(signal, backoff, ask, (wait) => {
    if (wait.attempt >= Math.min(triesMax, triesOf(wait.error))) throw givenUp(url, wait)
    onWait(wait)
  })
}

/** After so many failures in a row, of which this is the last, the host or relay is given up for now. */
export function triesOf(error: TransientError): number {
  return error instanceof NotXrpcError ? NOT_XRPC_TRIES : Infinity
}

function isNotXrpc(error: unknown): boolean {
  return error instanceof GivenUpError && error.cause instanceof NotXrpcError
}

export function givenUp(url: string, { attempt, error }: Retry): GivenUpError {
  return new GivenUpError(`${url}: given up after ${attempt} tries`, { cause: error })
}

async function askPage(
  { xrpc, url }: RepoListOptions,
  cursor: string | undefined,
  signal: AbortSignal,
): Promise<Page<ListedRepo>> {
  const query = { limit: PAGE, ...(cursor !== undefined && { cursor }) }
  const page = await xrpc.listRepos(url, query, { signal })
  // A whole page goes to Redis in one script, during which Redis does nothing else.
  const count = page.items.length + page.refused
  if (count > PAGE) throw new RefusedError('page-too-large', `${url}: ${count} repositories, asked for ${PAGE}`)
  // Otherwise a host that returns the cursor that it was given would be asked for ever.
  if (page.cursor !== undefined && page.cursor === cursor) throw new TransientError(`${url}: the cursor does not move`)
  return page
}

/**
 * The first page, instead of the page at a cursor that the host has forgotten.
 * @throws `error` when the host has not forgotten it, or when it is too early to tell
 */
async function askInstead(
  options: RepoListOptions,
  stuck: StuckCursor,
  { cursor, error }: { cursor: string; error: TransientError },
  signal: AbortSignal,
): Promise<Page<ListedRepo>> {
  if (!(await stuck.failed(cursor))) throw error
  const first = await askPage(options, undefined, signal).catch(() => undefined)
  if (first === undefined) throw error
  try {
    // The host may have recovered between the two requests.
    return await askPage(options, cursor, signal)
  } catch (again) {
    if (!isOfCursor(again)) throw again
    options.onAnew(await stuck.beginAnew(), again)
    return first
  }
}

/**
 * Whether the cursor may be what the host fails on. It is not when the host limits requests, or refuses with a reason.
 */
export function isOfCursor(error: unknown): error is TransientError {
  return error instanceof TransientError && !(error instanceof RateLimitedError)
}

/**
 * A host failed too often for now, or does not come to its end. No TransientError, which would be retried without end.
 */
export class GivenUpError extends Error {
  override name = 'GivenUpError'
}

/**
 * Whether listing a host is pointless for now: it refuses, it answers what we do not accept (a redirect to nowhere, too
 * many bytes), or it was given up.
 */
export function isHostFault(error: unknown): boolean {
  return error instanceof RefusedError || error instanceof GivenUpError
}

async function store(
  options: RepoListOptions,
  repos: readonly ListedRepo[],
  cursor: { key: string; from: string | null; to: string },
  signal: AbortSignal,
): Promise<ListingDecision> {
  const { redis, producer, onWait } = options
  for (;;) {
    const listing = options.listing()
    const dids = [...new Set(repos.flatMap(({ did }) => (isInShard(did, listing.shard) ? did : [])))]
    const stored = await retry(signal, BACKOFF, () => readChains(redis, dids), onWait)
    const known = new Map(dids.flatMap((did, i) => (stored[i] ? [[did, stored[i]] as const] : [])))
    const records = new Map([...known].map(([did, { record }]) => [did, record]))
    const decision = considerListing(repos, records, { ...listing, nowMs: Date.now() })
    try {
      const moves = moveChains(decision.records, known)
      await producer.append(decision.requests, signal, { also: moves, ...(cursor.from !== cursor.to && { cursor }) })
      return decision
    } catch (error) {
      if (!(error instanceof StateConflictError)) throw error
    }
  }
}
