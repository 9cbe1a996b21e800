/** The findings of `doctor`, one for each trouble. Each finding has an entry in DATAPLANE_DEBUG.md, under its id. */
import type { SystemState } from '../system-state.ts'

export const FINDINGS = [
  'redis-away',
  'redis-eviction',
  'redis-persistence',
  'redis-no-limit',
  'redis-near-limit',
  'redis-evicted',
  'redis-disk',
  'redis-replica',
  'redis-old',
  'redis-slow',
  'clock-skew',
  'stream-wrong-type',
  'consumer-stopped',
  'consumer-dead',
  'consumer-collision',
  'pending-stuck',
  'lag',
  'backpressure',
  'dead-letters',
  'group-unknown',
  'ingester-stopped',
  'relay-disconnected',
  'cursor-old',
  'labeler-silent',
  'backfill-stalled',
  'incidents',
  'postgres-away',
  'postgres-slow',
  'postgres-small-pages',
  'postgres-read-only',
  'postgres-collation',
  'postgres-connections',
  'pool-starved',
  'migrations-pending',
  'index-missing',
  'bulk-load',
  'sequence-near-end',
  'vacuum-behind',
  'long-transaction',
  'lock-waits',
  'accounts-behind',
  'settling-behind',
  'config-streams',
  'config-collections',
  'config-unknown',
  'version-mismatch',
  'daemon-not-ready',
  'daemon-silent',
] as const
export type FindingId = (typeof FINDINGS)[number]

export interface Finding {
  id: FindingId
  /** broken: data does not get through, or can be lost. warning: this is going to happen, or would go unnoticed. */
  severity: 'broken' | 'warning'
  /** The trouble, in one sentence. */
  what: string
  /** What was seen. */
  evidence: string
  meaning: string
  /** The command or action that mends it. */
  mend: string
}

/** The limits beyond which something is a trouble. */
export interface Limits {
  /** Age of the oldest live event that is not in the index. */
  lagSeconds: number
  /** Longer than a lease: a process that has been away for this long is not just restarting. */
  deadSeconds: number
  /** Relays keep some days of events. */
  cursorSeconds: number
  /** How overdue a question to an account's host may be. */
  accountSeconds: number
  /** How overdue the settling that batches have put off may be. */
  settlingSeconds: number
  roundTripMs: number
  clockMs: number
}

export const LIMITS: Limits = {
  lagSeconds: 300,
  deadSeconds: 15,
  cursorSeconds: 86_400,
  accountSeconds: 3_600,
  settlingSeconds: 900,
  roundTripMs: 250,
  clockMs: 5_000,
}

/** Looks for one kind of trouble in what was seen. Pure. */
export type Rule = (state: SystemState, limits: Limits) => Finding[]
