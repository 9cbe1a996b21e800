/**
 * Which of the repositories that a host lists are requested. Pure. The first listing requests all that were not
 * requested yet. A sweep requests those that are missing or behind, and nothing else.
 */
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
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
   * The host is a PDS and not a relay. It may be anybody's, and may name accounts that have moved away or were never
   * there. So its word on their status is not taken. Its word on a rev shows that something may be missing, but not
   * which rev an export must have: otherwise it could make every true export too old.
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
  /** Accounts whose listed status differs from the one that we hold. Their own hosts are to be asked. */
  suspects: string[]
  /** When the oldest of the revisions that are too young was made (Unix ms); Infinity without any. */
  leftOutSinceMs: number
}

/**
 * Decides about each repository of a page.
 * @param records what is known of the accounts; other accounts are unknown
 */
export function considerListing(
  repos: readonly ListedRepo[],
  records: ReadonlyMap<string, ChainRecord>,
  options: ListingOptions,
): ListingDecision {
  const page = new Page(records, options)
  const outcomes = repos.map((repo) => page.consider(repo))
  const { requests, changed, suspects, leftOutSinceMs } = page
  return { outcomes, requests, records: changed, suspects, leftOutSinceMs }
}

class Page {
  readonly requests: BackfillEvent[] = []
  readonly changed = new Map<string, ChainRecord>()
  readonly suspects: string[] = []
  leftOutSinceMs = Infinity
  /** A request does not always leave a record, and a page may name one account a thousand times. */
  readonly #asked = new Set<string>()
  readonly #known: ReadonlyMap<string, ChainRecord>
  readonly #options: ListingOptions

  constructor(known: ReadonlyMap<string, ChainRecord>, options: ListingOptions) {
    this.#known = known
    this.#options = options
  }

  consider(repo: ListedRepo): ListingOutcome {
    const { did } = repo
    if (this.#asked.has(did)) return 'pending'
    const outcome = this.#outcomeOf(repo, this.changed.get(did) ?? this.#known.get(did))
    if (outcome === 'asked') this.#asked.add(did)
    return outcome
  }

  #outcomeOf(repo: ListedRepo, known: ChainRecord | undefined): ListingOutcome {
    const { did } = repo
    const { shard, skipDids, nowMs, horizonMs } = this.#options
    if (!isInShard(did, shard)) return 'other-shard'
    if (skipDids.has(did)) return 'skipped'
    if (!isAtprotoDid(did)) return 'invalid'
    const record = known ?? UNKNOWN_CHAIN
    if (repo.active === false) return this.#inactive(repo, known)
    if (record.inactive) {
      this.suspects.push(did)
      return 'status-differs'
    }
    if (isPending(record.resync, nowMs / 1_000)) return 'pending'
    const rev = possibleRev(repo, this.#options)
    const isComplete = record.exported && record.resync === undefined
    if (isComplete && rev <= record.rev) return 'known'
    const madeMs = tidMicros(rev) / 1_000
    if (isComplete && madeMs > horizonMs) {
      this.leftOutSinceMs = Math.min(this.leftOutSinceMs, madeMs)
      return 'too-young'
    }
    this.#ask(repo, record)
    return 'asked'
  }

  /**
   * Passes an inactive account on once, so that the index learns of its status. Later changes come by the live stream.
   */
  #inactive(repo: ListedRepo, known: ChainRecord | undefined): ListingOutcome {
    const { did, status } = repo
    const { host, isPds, isSweep } = this.#options
    if (known?.inactive) return 'inactive'
    if (known !== undefined) {
      if (isPds || !isSweep) return 'inactive'
      this.suspects.push(did)
      return 'status-differs'
    }
    const rev = revOf(repo, this.#options)
    this.requests.push({ did, host, rev, active: false, ...(status !== undefined && { status }), reason: 'listed' })
    if (!isPds) this.changed.set(did, { ...UNKNOWN_CHAIN, inactive: true })
    return 'asked'
  }

  #ask(repo: ListedRepo, record: ChainRecord): void {
    const { did, status, active } = repo
    const { host, isPds, nowMs } = this.#options
    const rev = revOf(repo, this.#options)
    this.requests.push({
      did,
      host,
      rev,
      ...(status !== undefined && { status }),
      ...(active !== undefined && { active }),
      reason: record.exported ? 'sweep' : 'listed',
    })
    const need = isPds ? (record.resync?.need ?? record.rev) : rev
    this.changed.set(did, { ...record, resync: { need, askedAt: Math.floor(nowMs / 1_000) } })
  }
}

/** The rev that the export must have at least, as a relay says; '' when a PDS lists the repository. */
function revOf(repo: ListedRepo, options: ListingOptions): string {
  return options.isPds ? '' : possibleRev(repo, options)
}

/**
 * The rev as listed, or '' for one that no commit can have. A relay may pass such a rev on, and one that is later than
 * all others would make every true export too old.
 */
function possibleRev({ rev }: ListedRepo, { nowMs }: ListingOptions): string {
  return isTid(rev) && tidMicros(rev) / 1_000 <= nowMs + FUTURE_MS ? rev : ''
}
