/**
 * Labelers that nobody configured: accounts that declare themselves by a record (`app.bsky.labeler.service`), as relays
 * list them, and whose DID document names the host of their labels and the key that signs them. They are looked for at
 * the start and every hour. Each host is followed once, for all labelers that name it.
 *
 * Hosts and labelers are limited in number, and so are those of one owner (`host-owner.ts`). Otherwise anybody could
 * declare as many labelers as are followed in all, and later ones would find no room.
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
  /** Hosts that the operator has named. They are followed already. */
  known: readonly string[]
  max: number
  log: Logger
  labelerAt: (found: { upstream: Upstream; did: string }) => Found
  /** Begins to follow a labeler. */
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
/** Of how many limits the log tells at most. */
const TOLD = 100
/**
 * How many accounts are resolved at once. A did:web whose host does not answer takes a minute, and the accounts of live
 * frames go through the same queue, 32 at a time.
 */
const RESOLVING = 16

/**
 * Follows each host once. A labeler that is found later at the same host is included in its `Labeler`. Ends with the
 * signal.
 */
export async function discoverLabelers(options: DiscoveryOptions, signal: AbortSignal): Promise<void> {
  await new Discovery(options, signal).run()
}

class Discovery {
  readonly #options: DiscoveryOptions
  readonly #signal: AbortSignal
  /** By host. */
  readonly #labelers = new Map<string, Labeler>()
  /** The owner of the host where each labeler is followed, by the labeler's DID. */
  readonly #followed = new Map<string, string>()
  /** Limits of which the log has told, by owner; '' is the limit of all together. */
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
          // Once for a whole page: anybody can name a host, and make us connect to it.
          for (const labeler of this.#labelers.values()) labeler.renew()
        }
      }
      await sleep(everyMs, this.#signal).catch(() => {})
    }
  }

  async #look(did: string): Promise<void> {
    if (this.#isFull(did)) return
    const upstream = await labelerOf(this.#options, did, this.#signal)
    // Looked at again: the room may have been taken meanwhile.
    if (upstream !== undefined && !this.#isFull(did)) this.#place(upstream, did)
  }

  /**
   * Whether there is no room for one more labeler. One that is followed is looked at again all the same: it may have
   * moved, or left and come back.
   */
  #isFull(did: string): boolean {
    if (this.#followed.has(did) || this.#followed.size < this.#options.max) return false
    this.#tell(
      '',
      'INGESTER_LABELERS_MAX labelers are followed: others that declare themselves are not. Raise it, or name them in LABELER_HOSTS',
    )
    return true
  }

  /**
   * Follows a labeler at its host, unless the operator has named that host, or the owner has as many as it may have.
   */
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

  /** Whether the owner has all the labelers or hosts that it may have, not counting this labeler and its host. */
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

  /**
   * Begins to follow a host.
   * @returns whether it does
   */
  #begin(upstream: Upstream, did: string): boolean {
    const { max, log, labelerAt, follow } = this.#options
    // No more hosts than labelers: otherwise labelers that move would lead to ever more hosts.
    if (this.#labelers.size >= max) return false
    const found = labelerAt({ upstream, did })
    if (!found.labeler.mayBeAsked) return false
    this.#labelers.set(upstream.host, found.labeler)
    log.info({ did, host: upstream.host }, 'found a labeler')
    follow(found)
    return true
  }

  /** Logs a limit that was reached, once. */
  #tell(about: string, what: string): void {
    if (this.#told.has(about) || this.#told.size >= TOLD) return
    this.#told.add(about)
    this.#options.log.warn({ max: this.#options.max }, what)
  }
}

function countOf(owners: readonly string[], owner: string): number {
  return owners.filter((one) => one === owner).length
}

/** The accounts that one relay lists, page by page. None when it fails; it is asked again the next time. */
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

/**
 * The host of an account's labels. Undefined when the account has no key for labels: none of them could be believed.
 */
async function labelerOf({ keys }: DiscoveryOptions, did: string, signal: AbortSignal): Promise<Upstream | undefined> {
  try {
    const { labeler } = await keys.resolve(did, signal)
    return labeler?.signingKey === undefined ? undefined : parseUpstream(labeler.endpoint)
  } catch (error) {
    // It is looked for again in an hour.
    if (error instanceof IdentityUnavailableError || signal.aborted) return undefined
    throw error
  }
}
