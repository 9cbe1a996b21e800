/**
 * What verified frames mean, in the order given: which events to append, how each account's chain moves, which
 * repositories to request. Pure: when another process has moved a chain meanwhile, it is called again with what is in
 * Redis now.
 *
 * - Commits of a broken chain are appended anyway (the index converges by rev), unless their ops could not be proven. A
 *   resync brings what is missing. It is requested once: while one is pending, a further break only raises the rev that
 *   the export must have.
 * - A commit that lacks the block of a record counts as a broken chain: its other records are appended, and the resync
 *   brings that one.
 * - Commits of an account that is not active are left out, as the specification says. Its reactivation requests a
 *   resync.
 */
import {
  followChain,
  followSync,
  GAP_CAUSES,
  type ChainLinks,
  type ChainStep,
  type GapCause,
  type KnownState,
} from '@sluice/atproto/chain.ts'
import type { OpRefusal } from '@sluice/atproto/commit-events.ts'
import type { BackfillEvent, BackfillReason } from '@sluice/events/backfill-event.ts'
import { UNKNOWN_CHAIN, type ChainRecord } from '@sluice/streams/chain-state.ts'
import type { TrueCommit, TrueSync } from './verifier.ts'
import { refused, type Outcome } from './outcome.ts'

/** A frame that has been looked at. */
export interface Finding {
  /** The upstream that sent it. */
  host: string
  did: string
  what: TrueCommit | TrueSync | PlainEvent | AccountChange | Unresolved | Ended
}

/** An event that goes to the stream as it is. */
export interface PlainEvent {
  kind: 'event'
  entry: string
}

export interface AccountChange {
  kind: 'account'
  entry: string
  active: boolean
}

/**
 * A commit or sync that could not be checked for so long that it is given up. What it says is not known to be true, so
 * nothing of it counts.
 */
export interface Unresolved {
  kind: 'unresolved'
}

/** A frame that ends here: there is nothing to append or to change. */
export interface Ended {
  kind: 'ended'
  outcome: Outcome
}

export interface Limits {
  nowSeconds: number
  /** How many repositories may be asked for. */
  asks: number
  /** Whether the repository of this account may be asked for. It may have been asked for too often lately. */
  mayAsk: (did: string) => boolean
}

export interface Decision {
  /** One for each finding. */
  outcomes: Outcome[]
  entries: string[]
  /** The chain records that changed. */
  records: Map<string, ChainRecord>
  requests: BackfillEvent[]
  resyncs: Resync[]
  /** How many resyncs the limit of all accounts turned away, of accounts that were complete before. */
  turnedAway: number
  /** Accounts that have just been said to be inactive, and accounts that commit although they are. */
  suspects: string[]
}

export type ResyncAnswer = (typeof RESYNC_ANSWERS)[number]
/**
 * `asked`. `pending`: asked for before, and not done yet. `deferred`: too many were asked for, in all or of this
 * account; the account's next commit or the sweep asks again.
 */
export const RESYNC_ANSWERS = ['asked', 'pending', 'deferred'] as const

export type ResyncCause = GapCause | (typeof OTHER_CAUSES)[number]
const OTHER_CAUSES = ['sync', 'reactivated', 'unresolved', 'again'] as const
export const RESYNC_CAUSES: readonly ResyncCause[] = [...GAP_CAUSES, ...OTHER_CAUSES]

export interface Resync {
  cause: ResyncCause
  answer: ResyncAnswer
}

/** A resync that was asked for so long ago and has not come is asked for again. */
const PENDING_SECONDS = 3 * 86_400

/** @param records what is known of the accounts; other accounts are unknown */
export function decide(
  findings: readonly Finding[],
  records: ReadonlyMap<string, ChainRecord>,
  limits: Limits,
): Decision {
  const batch = new Batch(records, limits)
  const outcomes = findings.map((finding) => batch.decide(finding))
  const { entries, changed, requests, resyncs, turnedAway, suspects } = batch
  return { outcomes, entries, records: changed, requests, resyncs, turnedAway, suspects: [...suspects] }
}

class Batch {
  readonly entries: string[] = []
  readonly changed = new Map<string, ChainRecord>()
  readonly requests: BackfillEvent[] = []
  readonly resyncs: Resync[] = []
  turnedAway = 0
  readonly suspects = new Set<string>()
  /** Accounts whose repositories this batch asks for. Their entries are not even queued yet. */
  readonly #asked = new Set<string>()
  readonly #known: ReadonlyMap<string, ChainRecord>
  readonly #limits: Limits

  constructor(known: ReadonlyMap<string, ChainRecord>, limits: Limits) {
    this.#known = known
    this.#limits = limits
  }

  decide(finding: Finding): Outcome {
    const { what } = finding
    switch (what.kind) {
      case 'commit':
        return this.#commit(finding, what)
      case 'sync':
        return this.#sync(finding, what)
      case 'account':
        return this.#account(finding, what)
      case 'event':
        this.entries.push(what.entry)
        return 'appended'
      case 'unresolved': {
        const record = this.#record(finding.did)
        this.changed.set(
          finding.did,
          this.#wantResync(finding, record, record.resync?.need ?? record.rev, 'unresolved'),
        )
        return refused('identity-unavailable')
      }
      case 'ended':
        return what.outcome
    }
  }

  #commit(finding: Finding, { links, data, entries, filtered, refusedOps }: TrueCommit): Outcome {
    const { did } = finding
    const { rev, proof } = links
    const record = this.#record(did)
    if (record.rev !== '' && rev <= record.rev) return 'duplicate'
    if (record.inactive) return this.#inactive(did, record, rev)
    const step = stepOf(links, refusedOps, record)
    const moved = { ...record, rev, data }
    switch (step.kind) {
      case 'base':
        this.changed.set(did, { rev, data, exported: true, inactive: false })
        break
      case 'apply':
        this.changed.set(did, this.#remind(finding, moved))
        break
      case 'gap':
        this.changed.set(did, this.#wantResync(finding, moved, rev, step.cause))
        if (links.tooBig || proof === 'incomplete') return 'resync'
        break
    }
    this.entries.push(...entries)
    if (entries.length > 0) return 'appended'
    if (step.kind === 'gap') return 'resync'
    if (refusedOps.length > 0) return refused(refusedOps[0]!)
    return filtered > 0 ? 'filtered' : 'empty'
  }

  #sync(finding: Finding, { rev, data }: TrueSync): Outcome {
    const { did } = finding
    const record = this.#record(did)
    const step = followSync({ rev, data }, stateOf(record))
    if (step.kind === 'duplicate') return 'duplicate'
    if (record.inactive) return this.#inactive(did, record, rev)
    const moved = { ...record, rev, data }
    if (step.kind === 'same') {
      this.changed.set(did, this.#remind(finding, moved))
      return 'unchanged'
    }
    this.changed.set(did, this.#wantResync(finding, moved, rev, 'sync'))
    return 'resync'
  }

  #account(finding: Finding, { entry, active }: AccountChange): Outcome {
    const { did } = finding
    const record = this.#record(did)
    this.entries.push(entry)
    if (!active && !record.inactive) {
      this.changed.set(did, { ...record, inactive: true })
      // A host that the account has left may say so, late.
      this.suspects.add(did)
    }
    if (active && record.inactive) {
      // What was asked for before this batch may have ended in "not active". So it does not count as pending.
      const { resync, ...rest } = record
      const need = resync?.need ?? record.rev
      this.changed.set(did, this.#wantResync(finding, { ...rest, inactive: false }, need, 'reactivated'))
    }
    return 'appended'
  }

  /**
   * Refuses a commit of an inactive account. The commit is not lost: when the account is active again, an export of at
   * least its rev is needed.
   */
  #inactive(did: string, record: ChainRecord, rev: string): Outcome {
    this.suspects.add(did)
    this.changed.set(did, { ...record, resync: { need: rev, askedAt: record.resync?.askedAt ?? 0 } })
    return refused('account-inactive')
  }

  #record(did: string): ChainRecord {
    return this.changed.get(did) ?? this.#known.get(did) ?? UNKNOWN_CHAIN
  }

  /** Asks for a resync that is wanted and not pending; returns the record with it. */
  #remind(finding: Finding, record: ChainRecord): ChainRecord {
    if (record.resync === undefined || this.#isPending(record)) return record
    return this.#wantResync(finding, record, record.resync.need, 'again')
  }

  #wantResync({ did, host }: Finding, record: ChainRecord, need: string, cause: ResyncCause): ChainRecord {
    const { nowSeconds, asks, mayAsk } = this.#limits
    if (this.#asked.has(did) || this.#isPending(record)) {
      this.resyncs.push({ cause, answer: 'pending' })
      return { ...record, resync: { need, askedAt: record.resync?.askedAt || nowSeconds } }
    }
    if (this.requests.length >= asks || !mayAsk(did)) {
      if (record.exported && mayAsk(did)) this.turnedAway++
      this.resyncs.push({ cause, answer: 'deferred' })
      return { ...record, resync: { need, askedAt: 0 } }
    }
    this.resyncs.push({ cause, answer: 'asked' })
    this.#asked.add(did)
    this.requests.push({ did, host, rev: need, reason: reasonOf(cause) })
    return { ...record, resync: { need, askedAt: nowSeconds } }
  }

  #isPending({ resync }: ChainRecord): boolean {
    return isPending(resync, this.#limits.nowSeconds)
  }
}

/** Whether a resync was asked for and may still come. */
export function isPending(resync: ChainRecord['resync'], nowSeconds: number): boolean {
  return resync !== undefined && resync.askedAt > 0 && nowSeconds - resync.askedAt < PENDING_SECONDS
}

/** No later commit brings a block that is missing. So the chain counts as broken, though its tree is proven. */
function stepOf(links: ChainLinks, refusedOps: readonly OpRefusal[], record: ChainRecord): ChainStep {
  const step = followChain(links, stateOf(record))
  return step.kind !== 'gap' && refusedOps.includes('op-missing-block')
    ? { kind: 'gap', cause: 'incomplete-proof' }
    : step
}

function stateOf({ rev, data }: ChainRecord): KnownState | null {
  return rev === '' ? null : { rev, data }
}

function reasonOf(cause: ResyncCause): BackfillReason {
  switch (cause) {
    case 'too-big':
    case 'sync':
    case 'reactivated':
      return cause
    default:
      return 'gap'
  }
}
