/** Our side of a comparison: feeds events in batches of random sizes, and notes all that happened. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { uriOf, type RecordEvent, type RepoEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { applyBatch, type Index } from '../apply-batch.ts'
import { KnownActors } from '../own.ts'
import type { Refused } from '../prepare.ts'
import { workBeside, type Handles } from './beside.ts'
import { Happened } from './happened.ts'

/** A version of a record that the official indexer gave up on. */
export interface OfficialFailure {
  uri: string
  rev: string
  /**
   * Either the record fails its lexicon, names what is not its owner's, or names its thread by handle. Or the official
   * indexer itself failed: at an insert of no rows, a text with NUL, an edit after which the record says what another
   * one says already.
   */
  reason: (typeof REFUSALS)[number] | OwnFailure
}
type OwnFailure = (typeof OWN_FAILURES)[number]
const OWN_FAILURES = ['empty insert', 'nul', 'edited into a duplicate'] as const
/** The reasons for which our indexer refuses the record too. */
export const REFUSALS = ['invalid', 'wrong owner', 'named by handle'] as const

export class Feeder {
  readonly happened = new Happened()
  readonly refused: Refused[] = []
  readonly events: StreamEvent[] = []
  /** Events that were not fed to our index. */
  readonly left: StreamEvent[] = []
  batches = 0
  readonly #random: Random
  readonly #index: Index
  readonly #invalid: ReadonlySet<string>
  readonly #dropped: ReadonlySet<string>

  /**
   * @param failed versions that the official indexer gave up on. Those that it dropped because it failed itself are not
   * fed to our index either, so that everything that hangs on them can be compared. Tests of their own show that ours
   * indexes them
   */
  constructor(db: DatabasePool, seed: number, failed: readonly OfficialFailure[]) {
    this.#random = new Random(seed)
    this.#index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
    const [dropped, invalid] = [new Set<string>(), new Set<string>()]
    for (const { uri, rev, reason } of failed)
      (OWN_FAILURES.some((own) => own === reason) ? dropped : invalid).add(`${uri} ${rev}`)
    this.#dropped = dropped
    this.#invalid = invalid
  }

  async apply(recorded: readonly StreamEvent[]): Promise<void> {
    const isDropped = (event: StreamEvent): boolean =>
      'rkey' in event && this.#dropped.has(`${uriOf(event)} ${event.rev}`)
    // The official indexer moves the head all the same, so ours gets an event of the head alone.
    const events = recorded.map((event) => ('rkey' in event && isDropped(event) ? headOf(event) : event))
    this.left.push(...recorded.filter(isDropped))
    for (let at = 0; at < events.length;) {
      const size = this.#random.chance(0.2) ? 1 : 1 + this.#random.below(80)
      const { refused } = await applyBatch(this.#index, events.slice(at, at + size))
      this.refused.push(...refused)
      this.batches++
      at += size
    }
    this.#fed(events)
  }

  /** Does the work that waits beside the data path. */
  async settle(handles: Handles): Promise<void> {
    await workBeside(this.#index, handles)
  }

  #fed(events: readonly StreamEvent[]): void {
    this.events.push(...events)
    this.happened.note(events, this.#invalid)
  }
}

function headOf({ did, time, commit, rev }: RecordEvent): RepoEvent {
  return { type: 'repo', did, time, commit, rev }
}
