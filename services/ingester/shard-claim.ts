/**
 * Redis remembers which shard of the accounts a stream holds: `<stream>:shard` is `i/n`, and `0/1` for everything. An
 * ingester of another shard does not start on it. It would leave out accounts whose events belong there, and move the
 * cursor past them, which nobody would notice until their next commit. To change the number of shards on purpose, the
 * operator removes the keys (docs/operations.md).
 */
import { retry } from '@sluice/runtime/backoff.ts'
import { FatalError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import { classified, REDIS_BACKOFF, type Redis } from '@sluice/streams/connection.ts'
import { formatShard, type Shard } from '@sluice/streams/spread.ts'

export interface ShardClaim {
  redis: Redis
  /** Streams that each hold one shard. */
  streams: readonly string[]
  shard: Shard
  log: Logger
}

export const shardKey = (stream: string): string => `${stream}:shard`

/**
 * Claims the streams for a shard, if nobody has before.
 * @throws FatalError when a stream holds another shard; AbortError on the signal
 */
export async function claimShard({ redis, streams, shard, log }: ShardClaim, signal: AbortSignal): Promise<void> {
  const own = formatShard(shard)
  const claim = async (): Promise<void> => {
    for (const stream of streams) {
      const held = await hold(redis, shardKey(stream), own)
      if (held !== own) throw new FatalError(refusal(stream, held, own))
    }
  }
  await retry(signal, REDIS_BACKOFF, claim, ({ error, delayMs }) =>
    logRetry(log, delayMs, 'asking Redis for its shard failed', error),
  )
}

/** @returns what the key holds from now on */
async function hold(redis: Redis, key: string, value: string): Promise<string> {
  await classified(redis.set(key, value, { condition: 'NX' }))
  return (await classified(redis.get(key))) ?? value
}

function refusal(stream: string, held: string, own: string): string {
  return (
    `${stream} of this Redis holds shard ${held} of the accounts, and INGESTER_SHARD says ${own}. ` +
    'Is REDIS_URL that of another shard? Several shards in one Redis need streams of their own ' +
    '(INGESTER_FIREHOSE_STREAM, INGESTER_REPO_STREAM, and what reads them). ' +
    `To change the number of shards, see "Shards" in docs/operations.md, and DEL ${shardKey(stream)}`
  )
}
