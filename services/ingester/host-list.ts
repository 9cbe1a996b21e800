/**
 * The hosts that a relay knows, page by page. Always listed from the start: the list is short, so its cursor is kept
 * nowhere.
 *
 * A relay that fails is waited for. When it fails on one cursor again and again, it may have forgotten that cursor (its
 * software was exchanged, for example), and would be asked for it for ever. Then the list begins at the start again,
 * which costs a request for each page. The caller leaves out hosts that are named a second time.
 */
import type { ListedHost, Page, XrpcClient } from '@sluice/atproto/xrpc.ts'
import { retry, type BackoffPolicy, type Retry } from '@sluice/runtime/backoff.ts'
import type { TransientError } from '@sluice/runtime/errors.ts'
import { givenUp, GivenUpError, isOfCursor, triesOf } from './repo-list.ts'
import type { Upstream } from './upstream.ts'

export interface HostListOptions {
  xrpc: Pick<XrpcClient, 'listHosts'>
  relay: Upstream
  backoff: BackoffPolicy
  onWait: (retry: Retry) => void
  /** The relay has failed on a cursor so often that the list begins anew. */
  onAnew: (error: TransientError) => void
}

const PAGE = 1_000
/** A million hosts. */
const PAGES = 1_000
/** Failures in a row on one cursor. They take minutes. */
const TRIES = 10

/**
 * Lists the hosts; a host may come twice.
 * @throws RefusedError, GivenUpError: see `isHostFault`; AbortError on the signal
 */
export async function* listHosts(options: HostListOptions, signal: AbortSignal): AsyncGenerator<ListedHost> {
  let cursor: string | undefined
  for (let pages = 0; pages < PAGES; pages++) {
    const page = await pageAt(cursor, options, signal)
    if (page !== undefined) yield* page.items
    if (page !== undefined && (page.cursor === undefined || page.cursor === cursor)) return
    cursor = page?.cursor
  }
  throw new GivenUpError(`${options.relay.host}: its list of hosts has no end after ${PAGES} pages`)
}

/** One page; undefined when the relay has failed on this cursor too often. */
async function pageAt(
  cursor: string | undefined,
  { xrpc, relay, backoff, onWait, onAnew }: HostListOptions,
  signal: AbortSignal,
): Promise<Page<ListedHost> | undefined> {
  const query = { limit: PAGE, ...(cursor !== undefined && { cursor }) }
  const ask = async (): Promise<Page<ListedHost>> => xrpc.listHosts(relay.webUrl, query, { signal })
  let failed: TransientError | undefined
  const page = retry(signal, backoff, ask, (wait) => {
    if (cursor === undefined && wait.attempt >= triesOf(wait.error)) throw givenUp(relay.webUrl, wait)
    onWait(wait)
    if (cursor === undefined || wait.attempt < TRIES || !isOfCursor(wait.error)) return
    failed = wait.error
    throw failed
  })
  return await page.catch((error: unknown) => {
    if (failed === undefined || error !== failed) throw error
    onAnew(failed)
    return undefined
  })
}
