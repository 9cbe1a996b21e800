/** What an ingester calls its connection to Redis: `CLIENT LIST` tells by it who is there, and which shard it reads for. */
import { formatShard, type Shard } from './spread.ts'

/** `sluice-ingester-all`; of one shard of several `sluice-ingester-all-0/2`. */
export function ingesterClientName(mode: string, shard: Shard): string {
  return `sluice-ingester-${mode}${shard.of === 1 ? '' : `-${formatShard(shard)}`}`
}
