/**
 * Labelers that nobody configured: accounts that declare themselves by a record (`app.bsky.labeler.service`), as relays list them, and whose
 * DID document names the host of their labels and the key that signs them. Looked for at the start and every hour; each host is followed once,
 * for all labelers that name it; both hosts and labelers are limited in number, and so are those of one owner (`host-owner.ts`): anybody can declare as many as are followed in
 * all, and those that come later would find no room.
 */
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import type { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { sleep } from '@sluice/runtime/backoff.ts'
import { describeError, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import { sideBySide } from '@sluice/runtime/side-by-side.ts'
import type { Labeler } from './labeler.ts'
import { IdentityUnavailableError, type SigningKeys } from './signing-keys.ts'
import { parseUpstream, type Upstream } from './upstream.ts'

export interface DiscoveryOptions {
  xrpc: Pick<XrpcClient, 'listReposByCollection'>
  keys: Pick<SigningKeys, 'resolve'>
  relays: readonly Upstream[]
  /** Hosts that are followed already. */
  known: readonly string[]
  max: number
  log: Logger
  labelerAt: (found: { upstream: Upstream; did: string }) => Found
  /** Begins to follow it. */
  follow: (found: Found) => void
  everyMs?: number
}

export interface Found {
  host: string
  labeler: Labeler
}

const COLLECTION = 'app.bsky.labeler.service'
const EVERY_MS = 3_600_000
const PAGE = 1_000
/** Of the room, that the labelers of one owner may have, and their hosts; but as many as few need anyway. */
const PART_OF_OWNER = 8
const LEAST_OF_OWNER = 16
/** Owners of whom it is told that they have their part, each once. */
const TOLD = 100
/** Accounts that are resolved at once: a did:web whose host does not answer takes a minute. Those of live frames go by the same queue, which lets 32 through. */
const RESOLVING = 16

/** Follows each host that is to be followed, once; what is found for one later is included in its labeler. Ends with the signal. */
export async function discoverLabelers(options: DiscoveryOptions, signal: AbortSignal): Promise<void> {
  const { relays, max, log, everyMs = EVERY_MS } = options
  const labelers = new Map<string, Labeler>()
  /** With whose hosts they are. */
  const followed = new Map<string, string>()
  const mostOfOwner = Math.max(LEAST_OF_OWNER, Math.floor(max / PART_OF_OWNER))
  const told = new Set<string>()
  while (!signal.aborted) {
    for (const relay of relays) {
      for await (const dids of declared(options, relay, signal)) {
        await sideBySide(dids, RESOLVING, look)
        // Once for all of a page: anybody can name a host, and have us connect to it.
        for (const labeler of labelers.values()) labeler.renew()
      }
    }
    await sleep(everyMs, signal).catch(() => {})
  }

  async function look(did: string): Promise<void> {
    if (isFull(did)) return
    const upstream = await labelerOf(options, did, signal)
    // There may have been room when it was begun.
    if (upstream !== undefined && !isFull(did)) place(upstream, did)
  }

  /** One that is followed is looked at again: it may have moved, or left and come back. */
  function isFull(did: string): boolean {
    if (followed.has(did) || followed.size < max) return false
    tell('', 'INGESTER_LABELERS_MAX labelers are followed: others that declare themselves are not')
    return true
  }

  function tell(about: string, what: string): void {
    if (told.has(about) || told.size >= TOLD) return
    told.add(about)
    log.warn({ max }, what)
  }

  function place(upstream: Upstream, did: string): void {
    const { known, labelerAt, follow } = options
    const { host } = upstream
    const owner = ownerOf(host)
    if (known.includes(host)) return
    const others = [...followed].filter(([other]) => other !== did).map(([, of]) => of)
    const otherHosts = [...labelers.keys()].filter((other) => other !== host).map(ownerOf)
    if (Math.max(countOf(others, owner), countOf(otherHosts, owner)) >= mostOfOwner)
      return tell(
        owner,
        `${mostOfOwner} labelers of ${owner} are followed: others there that declare themselves are not`,
      )
    const labeler = labelers.get(host)
    if (labeler === undefined) {
      // As many hosts as labelers, or those that move would lead to ever more.
      if (labelers.size >= max) return
      const found = labelerAt({ upstream, did })
      if (!found.labeler.mayBeAsked) return
      labelers.set(host, found.labeler)
      followed.set(did, owner)
      log.info({ did, host }, 'found a labeler')
      follow(found)
      return
    }
    if (labeler.include(did)) log.info({ did, host }, 'found a labeler at a host that is followed')
    followed.set(did, owner)
  }
}

function countOf(owners: readonly string[], owner: string): number {
  return owners.filter((one) => one === owner).length
}

/** What one relay lists, page by page; nothing when it cannot, until the next time. */
async function* declared(
  { xrpc, log }: DiscoveryOptions,
  relay: Upstream,
  signal: AbortSignal,
): AsyncGenerator<string[]> {
  let cursor: string | undefined
  try {
    do {
      const query = { collection: COLLECTION, limit: PAGE, ...(cursor !== undefined && { cursor }) }
      const page = await xrpc.listReposByCollection(relay.webUrl, query, { signal })
      yield page.items.map(({ did }) => did)
      if (page.cursor === cursor) return
      cursor = page.cursor
    } while (cursor !== undefined)
  } catch (error) {
    if (signal.aborted) return
    if (!(error instanceof TransientError || error instanceof RefusedError)) throw error
    log.warn({ host: relay.host, error: describeError(error) }, 'a relay did not list labelers; asked again in an hour')
  }
}

/** Nothing without a key: no label of it could be believed. */
async function labelerOf({ keys }: DiscoveryOptions, did: string, signal: AbortSignal): Promise<Upstream | undefined> {
  try {
    const { labeler } = await keys.resolve(did, signal)
    return labeler?.signingKey === undefined ? undefined : parseUpstream(labeler.endpoint)
  } catch (error) {
    // Asked for again in an hour, as all that is not followed.
    if (error instanceof IdentityUnavailableError || signal.aborted) return undefined
    throw error
  }
}
