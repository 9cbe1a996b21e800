/** The last line of `doctor`: how many findings there are, and which of them is likely to be behind others. Pure. */
import type { FindingId } from './finding.ts'

/** Findings about what stops the data or slows it down. */
const CAUSES: ReadonlySet<FindingId> = new Set<FindingId>([
  'redis-away',
  'redis-near-limit',
  'redis-disk',
  'redis-replica',
  'redis-old',
  'redis-slow',
  'stream-wrong-type',
  'consumer-stopped',
  'consumer-dead',
  'consumer-collision',
  'pending-stuck',
  'ingester-stopped',
  'relay-disconnected',
  'postgres-away',
  'postgres-slow',
  'postgres-read-only',
  'postgres-connections',
  'pool-starved',
  'migrations-pending',
  'index-missing',
  'vacuum-behind',
  'long-transaction',
  'lock-waits',
  'config-streams',
])

/** Findings that are effects of data that do not get through. */
const EFFECTS: ReadonlySet<FindingId> = new Set<FindingId>([
  'lag',
  'backpressure',
  'cursor-old',
  'backfill-stalled',
  'accounts-behind',
  'settling-behind',
  'daemon-not-ready',
])

/** @param found the findings: at least one, in the order of the data path */
export function summaryOf(found: readonly FindingId[]): string {
  const findings = `${found.length} finding${found.length === 1 ? '' : 's'}`
  const cause = found.find((id) => CAUSES.has(id))
  if (cause === undefined) return findings
  const effects = new Set(found.slice(found.indexOf(cause)).filter((id) => EFFECTS.has(id)))
  if (effects.size === 0) return findings
  return `${findings}; ${cause} is likely to be the cause of ${new Intl.ListFormat('en').format(effects)}`
}
