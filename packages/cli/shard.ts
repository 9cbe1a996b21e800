/**
 * With several shards, the command line sees one of them, given by its environment. Commands about accounts of other
 * shards must be run with the environment of those.
 */
import { formatShard, isInShard, shardOf, type Shard } from '@sluice/streams/spread.ts'
import { CannotError } from './cli.ts'
import type { Request } from './requests.ts'

/** The requests for accounts of this shard, and a text about the others; '' when there are none. */
export function requestsOfShard<R extends Request>(requests: readonly R[], shard: Shard): { own: R[]; others: string } {
  const own = requests.filter(({ did }) => isInShard(did, shard))
  const left = requests.length - own.length
  const where = `run it with the environment of the other shards too (this is ${formatShard(shard)})`
  return { own, others: left === 0 ? '' : `${left} of other shards were left out: ${where}` }
}

/** @throws CannotError when the account's chain and events are not in this shard: an answer from here would be wrong */
export function assertInShard(did: string, shard: Shard): void {
  if (isInShard(did, shard)) return
  const there = formatShard({ index: shardOf(did, shard.of), of: shard.of })
  throw new CannotError(
    `${did} is in shard ${there}, and this is ${formatShard(shard)}: ask with the environment of ${there}`,
  )
}
