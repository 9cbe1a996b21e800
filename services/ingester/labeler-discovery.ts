/**
 * Labelers that nobody configured: accounts that declare themselves by a record (`app.bsky.labeler.service`), as relays list them, and whose
 * DID document names where their labels are. Looked for at the start and every hour; each is followed once, up to a limit.
 */
import type { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { sleep } from '@sluice/runtime/backoff.ts'
import { describeError, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
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
  follow: (found: { upstream: Upstream; did: string }) => { host: string; labeler: Labeler }
  everyMs?: number
}

const COLLECTION = 'app.bsky.labeler.service'
const EVERY_MS = 3_600_000
const PAGE = 1_000

/** Ends with the signal. */
export async function* discoverLabelers(
  options: DiscoveryOptions,
  signal: AbortSignal,
): AsyncGenerator<{ host: string; labeler: Labeler }> {
  const { relays, known, max, log, follow, everyMs = EVERY_MS } = options
  const hosts = new Set(known)
  const followed = new Set<string>()
  while (!signal.aborted) {
    for (const relay of relays) {
      for await (const did of declared(options, relay, signal)) {
        if (followed.has(did)) continue
        const upstream = await labelerOf(options, did, signal)
        if (upstream === undefined || hosts.has(upstream.host)) continue
        if (followed.size >= max) {
          log.warn({ max }, 'more labelers declare themselves than INGESTER_LABELERS_MAX: the others are not followed')
          return
        }
        followed.add(did)
        hosts.add(upstream.host)
        log.info({ did, host: upstream.host }, 'found a labeler')
        yield follow({ upstream, did })
      }
    }
    await sleep(everyMs, signal).catch(() => {})
  }
}

/** What one relay lists; nothing when it cannot, until the next time. */
async function* declared(
  { xrpc, log }: DiscoveryOptions,
  relay: Upstream,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let cursor: string | undefined
  try {
    do {
      const query = { collection: COLLECTION, limit: PAGE, ...(cursor !== undefined && { cursor }) }
      const page = await xrpc.listReposByCollection(relay.webUrl, query, { signal })
      for (const { did } of page.items) yield did
      if (page.cursor === cursor) return
      cursor = page.cursor
    } while (cursor !== undefined)
  } catch (error) {
    if (signal.aborted) return
    if (!(error instanceof TransientError || error instanceof RefusedError)) throw error
    log.warn({ host: relay.host, error: describeError(error) }, 'a relay did not list labelers; asked again in an hour')
  }
}

async function labelerOf({ keys }: DiscoveryOptions, did: string, signal: AbortSignal): Promise<Upstream | undefined> {
  try {
    const { labeler } = await keys.resolve(did, signal)
    return labeler && parseUpstream(labeler.endpoint)
  } catch (error) {
    // Asked for again in an hour, as all that is not followed.
    if (error instanceof IdentityUnavailableError || signal.aborted) return undefined
    throw error
  }
}
