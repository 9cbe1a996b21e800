/** Puts the ingester together: one connection to Redis, and the services that INGESTER_MODE asks for. */
import type { CachedResolution } from '@sluice/atproto/identity-cache.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { collections } from '@sluice/collections/collections.ts'
import { backfillEventCodec, labelEventCodec, type EntryCodec } from '@sluice/events/codec.ts'
import { logRetry } from '@sluice/runtime/log.ts'
import type { RoleContext } from '@sluice/runtime/main.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { RedisIdentityCache } from '@sluice/streams/identity-cache.ts'
import { recordIncident, type Incident } from '@sluice/streams/incidents.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { AccountCheck } from './account-check.ts'
import type { IngesterConfig } from './config.ts'
import { Firehose } from './firehose.ts'
import { Judge } from './judge.ts'
import { Labeler } from './labeler.ts'
import { Labels } from './labels.ts'
import { liveLagMs } from './live-lag.ts'
import {
  accountMetrics,
  backpressureMetrics,
  firehoseMetrics,
  labelMetrics,
  repoMetrics,
  type FirehoseMetrics,
} from './metrics.ts'
import { checkRedis } from './redis-check.ts'
import { Repos } from './repos.ts'
import { SigningKeys } from './signing-keys.ts'
import { demandSweep } from './sweep-demand.ts'
import { parseUpstream, type Upstream } from './upstream.ts'

type Context = RoleContext<IngesterConfig>

export async function buildIngester(context: Context): Promise<Service[]> {
  const redis = await connect(context)
  await checkRedis(redis, context.config.redisStrict, context.log, context.signal)
  const parts = new Parts(context, redis)
  switch (context.config.mode) {
    case 'all':
      return [...parts.firehose(), ...parts.repos(), parts.accounts, ...parts.labels()]
    case 'firehose':
      return [...parts.firehose(), parts.accounts]
    case 'backfill':
      return [...parts.repos(), parts.accounts]
    case 'labeler':
      return parts.labels()
  }
}
