/**
 * Assembles what the indexer does for accounts beside the data path: it checks their hosting status, carries out
 * deletions, and verifies handles.
 */
import { HandleResolver } from '@sluice/atproto/handle-resolver.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { tolerant, type CachedResolution } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { backfillEventCodec } from '@sluice/events/codec.ts'
import type { Index } from '@sluice/indexing/apply-batch.ts'
import { logRetry } from '@sluice/runtime/log.ts'
import type { RoleContext } from '@sluice/runtime/main.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { RedisIdentityCache } from '@sluice/streams/identity-cache.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { shardOfSetting } from '@sluice/streams/spread.ts'
import { AccountChecks } from './check-accounts.ts'
import type { IndexerConfig } from './config.ts'
import { Deletions } from './delete-accounts.ts'
import { HostPace } from './host-pace.ts'
import { Handles } from './resolve-handles.ts'

/** Endings of handles in a test network, which no DNS server knows. */
const TEST_ENDINGS = ['.test']
const RETRY_MS = 5_000
const NONE_MS = 3_600_000

/** @param redis the connection for commands; identities that the other daemons have fetched are cached there */
export function buildIdentity(context: RoleContext<IndexerConfig>, index: Index, redis: Redis): Service[] {
  const { config, log, metrics, resources } = context
  // The operator may name a PLC directory at any address, a private one too. If its address were refused, every account
  // would seem unknown to the directory, and every handle would be lost.
  const allowOrigins = [config.plcUrl]
  const http = new HttpClient({ allowPrivate: config.allowPrivate, allowOrigins, connectionsPerHost: 32 })
  resources.defer(() => http.close())
  const { handleConcurrency: concurrency, handlePerSecond: perSecond } = config
  const identities = new IdentityResolver({
    plcUrl: config.plcUrl,
    http,
    cache: tolerant(new RedisIdentityCache<CachedResolution>({ redis })),
    plcConcurrency: concurrency,
    plcPerSecond: perSecond,
    // A question about a did:web holds a place of the handle queue while it is asked, and while it waits for its turn.
    // Together these may hold three in eight of the places, so that many domains with silent hosts leave places to
    // did:plc. An account that is turned away for that is asked about again soon, or within minutes when the hosts of
    // its owner do not answer.
    webConcurrency: Math.max(1, concurrency >> 2),
    webWaiting: Math.max(1, concurrency >> 3),
    webSlowTurnedAway: true,
  })
  const shard = shardOfSetting(config.shard)
  const shared = { identities, xrpc: new XrpcClient(http), pace: new HostPace(), log, metrics, shard }
  const deletions = new Deletions({ ...shared, index, redis, producer: repoRequests(context, redis) })
  const checks = new AccountChecks({ ...shared, db: index.db })
  if (!config.handles) return [deletions, checks]
  const handles = new HandleResolver({
    http,
    concurrency,
    perSecond,
    ...(config.allowPrivate && { askPdsFor: TEST_ENDINGS }),
    ...(config.handleNameservers.length > 0 && { nameservers: config.handleNameservers }),
  })
  const refreshMs = config.handleRefreshMs
  const schedule = { refreshMs, retryMs: RETRY_MS, noneMs: NONE_MS, capMs: refreshMs }
  return [
    deletions,
    checks,
    new Handles({ db: index.db, identities, handles, log, metrics, concurrency, schedule, shard }),
  ]
}

/** The producer of the stream in which the repositories of accounts that came back are requested. */
function repoRequests({ config, log }: RoleContext<IndexerConfig>, redis: Redis): Producer<BackfillEvent> {
  const stream = config.repoStream
  return new Producer({
    redis,
    stream,
    codec: backfillEventCodec,
    highWater: new HighWater({
      redis,
      stream,
      // There is no entry limit here. A first load keeps the stream at its high-water mark for days, and an account
      // that is back must not wait for that. Such accounts are few.
      entriesMax: Infinity,
      onChange(held) {
        if (held)
          log.warn(
            { stream, why: held.detail },
            'repositories of accounts that came back are not requested until Redis has room',
          )
        else log.info({ stream }, 'repositories of accounts that came back are requested again')
      },
    }),
    onRetry: ({ error, delayMs }) => logRetry(log, delayMs, `requesting a repository in ${stream} failed`, error),
  })
}
