/**
 * Which of the repositories that a host lists are to be fetched. Pure. The first listing requests all that were not requested yet; a sweep requests
 * those that are missing or behind, and nothing else.
 */
import type { BackfillEvent, BackfillReason } from '@sluice/events/backfill-event.ts'
import { FUTURE_MS } from '@sluice/atproto/commit.ts'
import { isAtprotoDid } from '@sluice/atproto/syntax.ts'
import { isTid, tidMicros } from '@sluice/events/tid.ts'
import type { ListedRepo } from '@sluice/atproto/xrpc.ts'
import { UNKNOWN_CHAIN, type ChainRecord } from '@sluice/streams/chain-state.ts'
import { isInShard, type Shard } from '@sluice/streams/spread.ts'
import { isPending } from './decide.ts'

export interface ListingOptions {
  host: string
  /**
   * The host may be anybody's, and may name accounts that have moved away or were never with it. So its word on their status is not taken; and its word on
   * their rev tells that something may be missing, but not which rev an export must have: it could make every true export too old.
   */
  isPds: boolean
  isSweep: boolean
  nowMs: number
  /** Revisions made after this (Unix ms) may still come by the live stream. */
  horizonMs: number
  skipDids: ReadonlySet<string>
  shard: Shard
}

/** What became of a listed repository; fit for a metric label. */
export const LISTING_OUTCOMES = [
  'asked',
  'known',
  'pending',
  'too-young',
  'inactive',
  'status-differs',
  'skipped',
  'other-shard',
  'invalid',
] as const
export type ListingOutcome = (typeof LISTING_OUTCOMES)[number]

export interface ListingDecision {
  outcomes: ListingOutcome[]
  requests: BackfillEvent[]
  records: Map<string, ChainRecord>
  /** Accounts whose status is another than we hold: to be asked for at their PDS. */
  suspects: string[]
  /** When the oldest of the revisions that are too young was made (Unix ms); Infinity without any. */
  leftOutSinceMs: number
}

/** @param records what is known of the accounts; those not in it are unknown */
export function considerListing(
  repos: readonly ListedRepo[],
  records: ReadonlyMap<string, ChainRecord>,
  options: ListingOptions,
): ListingDecision {
  const decision: ListingDecision = {
    outcomes: [],
    requests: [],
    records: new Map(),
    suspects: [],
    leftOutSinceMs: Infinity,
  }
  // Not all that is asked for leaves a record: a page may name one account a thousand times.
  const asked = new Set<string>()
  for (const repo of repos) {
    const known = decision.records.get(repo.did) ?? records.get(repo.did)
    const outcome = asked.has(repo.did) ? 'pending' : consider(repo, known, options, decision)
    if (outcome === 'asked') asked.add(repo.did)
    decision.outcomes.push(outcome)
  }
  return decision
}

function consider(
  repo: ListedRepo,
  known: ChainRecord | undefined,
  options: ListingOptions,
  decision: ListingDecision,
): ListingOutcome {
  const { did } = repo
  if (!isInShard(did, options.shard)) return 'other-shard'
  if (options.skipDids.has(did)) return 'skipped'
  if (!isAtprotoDid(did)) return 'invalid'
  const record = known ?? UNKNOWN_CHAIN
  if (repo.active === false) return considerInactive(repo, known, options, decision)
  if (record.inactive) {
    decision.suspects.push(did)
    return 'status-differs'
  }
  if (isPending(record.resync, options.nowMs / 1_000)) return 'pending'
  const rev = possibleRev(repo, options)
  const isComplete = record.exported && record.resync === undefined
  if (isComplete && rev <= record.rev) return 'known'
  const madeMs = tidMicros(rev) / 1_000
  if (isComplete && madeMs > options.horizonMs) {
    decision.leftOutSinceMs = Math.min(decision.leftOutSinceMs, madeMs)
    return 'too-young'
  }
  ask(repo, record, record.exported ? 'sweep' : 'listed', options, decision)
  return 'asked'
}

/** Passed on once, so that the index learns of the status; later changes come by the live stream. */
function considerInactive(
  repo: ListedRepo,
  known: ChainRecord | undefined,
  options: ListingOptions,
  decision: ListingDecision,
): ListingOutcome {
  const { did, status } = repo
  if (known?.inactive) return 'inactive'
  if (known !== undefined) {
    if (options.isPds || !options.isSweep) return 'inactive'
    decision.suspects.push(did)
    return 'status-differs'
  }
  const { host } = options
  const rev = revOf(repo, options)
  decision.requests.push({ did, host, rev, active: false, ...(status !== undefined && { status }), reason: 'listed' })
  if (!options.isPds) decision.records.set(did, { ...UNKNOWN_CHAIN, inactive: true })
  return 'asked'
}

function ask(
  repo: ListedRepo,
  record: ChainRecord,
  reason: BackfillReason,
  options: ListingOptions,
  decision: ListingDecision,
): void {
  const { did, status, active } = repo
  const { host, isPds, nowMs } = options
  const rev = revOf(repo, options)
  decision.requests.push({
    did,
    host,
    rev,
    ...(status !== undefined && { status }),
    ...(active !== undefined && { active }),
    reason,
  })
  const need = isPds ? (record.resync?.need ?? record.rev) : rev
  decision.records.set(did, { ...record, resync: { need, askedAt: Math.floor(nowMs / 1_000) } })
}

/** What the export must have at least: a relay vouches for it. */
function revOf(repo: ListedRepo, options: ListingOptions): string {
  return options.isPds ? '' : possibleRev(repo, options)
}

/** The rev as listed, or '' for one that no commit can have: a relay may pass such a rev on, and one that comes after all others would make every true export too old. */
function possibleRev({ rev }: ListedRepo, { nowMs }: ListingOptions): string {
  return isTid(rev) && tidMicros(rev) / 1_000 <= nowMs + FUTURE_MS ? rev : ''
}
