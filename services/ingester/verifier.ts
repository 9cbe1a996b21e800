/**
 * Decides whether a frame is valid in itself, and which events it contains. Pure: the key and the clock are passed in.
 * The chain is checked later (`decide.ts`). So this, the expensive part, may run for many frames at once, in any order,
 * and on other threads.
 *
 * The events are returned as the JSON that Redis will hold.
 */
import { linksOf, type ChainLinks } from '@sluice/atproto/chain.ts'
import type { Cid } from '@sluice/atproto/cid.ts'
import { eventsOfCommit, type OpRefusal } from '@sluice/atproto/commit-events.ts'
import { checkCommit, checkSync, type CommitRefusal, type VerifyLevel } from '@sluice/atproto/commit.ts'
import type { CommitFrame, SyncFrame } from '@sluice/atproto/frame.ts'
import { collectionFilter, type CollectionFilter } from '@sluice/collections/patterns.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'

export interface TrueCommit {
  kind: 'commit'
  links: ChainLinks
  /** The root of the tree after the commit. */
  data: Cid
  /** The wanted events of the commit, as JSON. */
  entries: string[]
  /** How many ops are of collections that nobody wants. */
  filtered: number
  /** Why ops were left out, one reason each. */
  refusedOps: OpRefusal[]
  /** The paths of these ops, shortened. */
  refusedPaths: string[]
}

export interface TrueSync {
  kind: 'sync'
  rev: string
  data: Cid
}

export interface Untrue {
  kind: 'refused'
  reason: CommitRefusal
  detail: string
}

export type Verification = TrueCommit | TrueSync | Untrue

export interface VerifierOptions {
  level: VerifyLevel
  /** Collections that are wanted, as `collectionFilter` takes them. */
  collections: readonly string[]
}

/** Paths are shortened to this, since the text of an invalid path may have megabytes. */
const PATH_CHARS = 300

export class Verifier {
  readonly #level: VerifyLevel
  readonly #wanted: CollectionFilter

  constructor({ level, collections }: VerifierOptions) {
    this.#level = level
    this.#wanted = collectionFilter(collections)
  }

  /** @param key the account's signing key, or undefined when it has none; only read with `full` */
  verify(frame: CommitFrame | SyncFrame, key: string | undefined, nowMs = Date.now()): Verification {
    const options = { level: this.#level, nowMs }
    if (frame.type === 'sync') {
      const check = checkSync(frame, key, options)
      return check.kind === 'true' ? { kind: 'sync', ...check.state } : check
    }
    const check = checkCommit(frame, key, options)
    if (check.kind === 'refused') return check
    const now = new Date(nowMs).toISOString()
    const { events, refused, filtered } = eventsOfCommit(frame, check.blocks, { wanted: this.#wanted, now })
    return {
      kind: 'commit',
      links: { ...linksOf(frame), proof: check.proof },
      data: check.state.data,
      entries: events.map((event) => streamEventCodec.encode(event).event!),
      filtered,
      refusedOps: refused.map(({ reason }) => reason),
      refusedPaths: refused.map(({ path }) => path.slice(0, PATH_CHARS)),
    }
  }
}
