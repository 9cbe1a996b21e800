/** What the daemons call their connections to Redis: `CLIENT LIST` tells by it who is there, and which shard an ingester reads for. */
import { formatShard, type Shard } from './spread.ts'

/** `sluice-ingester-all`; of one shard of several `sluice-ingester-all-0/2`. */
export function ingesterClientName(mode: string, shard: Shard): string {
  return `sluice-ingester-${mode}${shard.of === 1 ? '' : `-${formatShard(shard)}`}`
}

/** `sluice-indexer-one-commands`, `sluice-backfiller-one-main`: each connection of a process has a purpose of its own. */
export function consumerClientName(role: 'indexer' | 'backfiller', consumer: string, purpose: string): string {
  return `sluice-${role}-${consumer}-${purpose}`
}

/** `indexer one` of `sluice-indexer-one-commands`; undefined for names that `consumerClientName` does not make. */
export function ownerOfClient(name: string): string | undefined {
  const match = /^sluice-(indexer|backfiller)-(.+)-[^-]+$/.exec(name)
  return match ? `${match[1]} ${match[2]}` : undefined
}
