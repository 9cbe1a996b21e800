/**
 * The names that the daemons give to their connections to Redis. `CLIENT LIST` shows by them which processes are
 * connected, and which shard an ingester reads.
 */
import { formatShard, type Shard } from './spread.ts'

/** `sluice-ingester-all`; for one shard of several, `sluice-ingester-all-0/2`. */
export function ingesterClientName(mode: string, shard: Shard): string {
  return `sluice-ingester-${mode}${shard.of === 1 ? '' : `-${formatShard(shard)}`}`
}

/**
 * Such as `sluice-indexer-one-commands`, `sluice-backfiller-one-main`: each connection of a process has a purpose of
 * its own.
 */
export function consumerClientName(role: 'indexer' | 'backfiller', consumer: string, purpose: string): string {
  return `sluice-${role}-${consumer}-${purpose}`
}

/**
 * Returns `indexer one` for `sluice-indexer-one-commands`; undefined for names that `consumerClientName` does not make.
 */
export function ownerOfClient(name: string): string | undefined {
  const match = /^sluice-(indexer|backfiller)-(.+)-[^-]+$/.exec(name)
  return match ? `${match[1]} ${match[2]}` : undefined
}
