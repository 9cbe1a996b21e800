/**
 * Labelers that nobody configured: accounts that declare themselves by a record (`app.bsky.labeler.service`), as relays list them, and whose
 * DID document names the host of their labels and the key that signs them. They are looked for at the start and every hour. Each host is followed once,
 * for all labelers that name it.
 *
 * Hosts and labelers are limited in number, and so are those of one owner (`host-owner.ts`): anybody can declare as many labelers as are followed in all, and those that
 * come later would find no room.
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
/** One owner may have the eighth part of all labelers, and of all hosts, or sixteen where that is more. */
const PART_OF_OWNER = 8
const LEAST_OF_OWNER = 16
/** Limits that are told of, at most. */
const TOLD = 100
/** Accounts that are resolved at once. A did:web whose host does not answer takes a minute, and the accounts of live frames go through the same queue, 32 at a time. */
const RESOLVING = 16

/** Follows each host that is to be followed, once; what is found for one later is included in its labeler. Ends with the signal. */
export async function discoverLabelers(options: DiscoveryOptions, signal: AbortSignal): Promise<void> {
  await new Discovery(options, signal).run()
}

class Discovery {
  readonly #options: DiscoveryOptions
  readonly #signal: AbortSignal
  /** By host. */
  readonly #labelers = new Map<string, Labeler>()
  /** By DID, the owner of the host where each labeler is followed. */
  readonly #followed = new Map<string, string>()
  /** Limits that were told of: by owner, '' for that of all together. */
  readonly #told = new Set<string>()

  constructor(options: DiscoveryOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
  }

  async run(): Promise<void> {
    const { relays, everyMs = EVERY_MS } = this.#options
    while (!this.#signal.aborted) {
      for (const relay of relays) {
        for await (const dids of declared(this.#options, relay, this.#signal)) {
          await sideBySide(dids, RESOLVING, (did) => this.#look(did))
          // Once for all of a page: anybody can name a host, and have us connect to it.
          for (const labeler of this.#labelers.values()) labeler.renew()
        }
      }
      await sleep(everyMs, this.#signal).catch(() => {})
    }
  }

  async #look(did: string): Promise<void> {
    if (this.#isFull(did)) return
    const upstream = await labelerOf(this.#options, did, this.#signal)
    // There may have been room when it was begun.
    if (upstream !== undefined && !this.#isFull(did)) this.#place(upstream, did)
  }

  /** A labeler that is followed is looked at again all the same: it may have moved, or left and come back. */
  #isFull(did: string): boolean {
    if (this.#followed.has(did) || this.#followed.size < this.#options.max) return false
    this.#tell(
      '',
      'INGESTER_LABELERS_MAX labelers are followed: others that declare themselves are not. Raise it, or name them in LABELER_HOSTS',
    )
    return true
  }

  /** Follows the labeler at its host, unless the operator does already, or its owner has as many as it may. */
  #place(upstream: Upstream, did: string): void {
    const { host } = upstream
    if (this.#options.known.includes(host)) return
    const owner = ownerOf(host)
    if (this.#hasItsPart(owner, { host, did })) return
    const labeler = this.#labelers.get(host)
    if (labeler === undefined) {
      if (this.#begin(upstream, did)) this.#followed.set(did, owner)
      return
    }
    if (labeler.include(did)) this.#options.log.info({ did, host }, 'found a labeler at a host that is followed')
    this.#followed.set(did, owner)
  }

  /** Whether the owner has all the labelers or hosts that it may have, without this labeler and its host. */
  #hasItsPart(owner: string, { host, did }: { host: string; did: string }): boolean {
    const { max } = this.#options
    const mostOfOwner = Math.max(LEAST_OF_OWNER, Math.floor(max / PART_OF_OWNER))
    const others = [...this.#followed].filter(([other]) => other !== did).map(([, of]) => of)
    const otherHosts = [...this.#labelers.keys()].filter((other) => other !== host).map(ownerOf)
    const isFull = Math.max(countOf(others, owner), countOf(otherHosts, owner)) >= mostOfOwner
    if (isFull) {
      const what = `${mostOfOwner} labelers of ${owner} are followed: others there that declare themselves are not. Raise INGESTER_LABELERS_MAX, or name them in LABELER_HOSTS`
      this.#tell(owner, what)
    }
    return isFull
  }

  /** Begins to follow a host. @returns whether it does */
  #begin(upstream: Upstream, did: string): boolean {
    const { max, log, labelerAt, follow } = this.#options
    // As many hosts as labelers, or those that move would lead to ever more.
    if (this.#labelers.size >= max) return false
    const found = labelerAt({ upstream, did })
    if (!found.labeler.mayBeAsked) return false
    this.#labelers.set(upstream.host, found.labeler)
    log.info({ did, host: upstream.host }, 'found a labeler')
    follow(found)
    return true
  }

  /** Tells of a limit that was reached, once. */
  #tell(about: string, what: string): void {
    if (this.#told.has(about) || this.#told.size >= TOLD) return
    this.#told.add(about)
    this.#options.log.warn({ max: this.#options.max }, what)
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
