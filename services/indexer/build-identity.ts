/** Puts together what the indexer does about identities beside the data path. */
import { HandleResolver } from '@sluice/atproto/handle-resolver.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import type { CachedResolution, IdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { RoleContext } from '@sluice/runtime/main.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { RedisIdentityCache } from '@sluice/streams/identity-cache.ts'
import type { IndexerConfig } from './config.ts'
import { Handles } from './resolve-handles.ts'

/** Of a test network, where nobody's DNS knows them. */
const TEST_ENDINGS = ['.test']
const RETRY_MS = 5_000
const NONE_MS = 3_600_000

/** @param redis of commands; the identities that the other daemons have fetched are there */
export function buildIdentity(context: RoleContext<IndexerConfig>, db: DatabasePool, redis: Redis): Service[] {
  const { config, log, metrics, resources } = context
  if (!config.handles) return []
  const http = new HttpClient({ allowPrivate: config.allowPrivate, connectionsPerHost: 32 })
  resources.defer(() => http.close())
  const { handleConcurrency: concurrency, handlePerSecond: perSecond } = config
  const identities = new IdentityResolver({
    plcUrl: config.plcUrl,
    http,
    cache: tolerant(new RedisIdentityCache<CachedResolution>({ redis })),
    plcConcurrency: concurrency,
    plcPerSecond: perSecond,
    webConcurrency: concurrency,
  })
  const handles = new HandleResolver({
    http,
    concurrency,
    perSecond,
    ...(config.allowPrivate && { askPdsFor: TEST_ENDINGS }),
    ...(config.handleNameservers.length > 0 && { nameservers: config.handleNameservers }),
  })
  const refreshMs = config.handleRefreshMs
  const schedule = { refreshMs, retryMs: RETRY_MS, noneMs: NONE_MS, capMs: refreshMs }
  return [new Handles({ db, identities, handles, log, metrics, concurrency, schedule })]
}

/** A cache that cannot be read is a miss: it costs time, not correctness. */
function tolerant(cache: IdentityCache): IdentityCache {
  return {
    get: (did) => cache.get(did).catch(() => ({ cached: undefined, epoch: -1 })),
    set: (did, value, epoch) => cache.set(did, value, epoch).catch(() => false),
    purge: (did) => cache.purge(did),
  }
}
