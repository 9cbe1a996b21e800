/** Our side of a comparison: events in batches of random sizes, and a note of all that happened. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'
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
  /** The record fails its lexicon; it names what is not its owner's; or the indexer's own statement failed. */
  reason: 'invalid' | 'wrong owner' | 'empty insert'
}

export class Feeder {
  readonly happened = new Happened()
  readonly refused: Refused[] = []
  readonly events: StreamEvent[] = []
  batches = 0
  readonly #random: Random
  readonly #index: Index
  readonly #invalid: ReadonlySet<string>
  readonly #left: ReadonlySet<string>

  /**
   * @param failed what the official indexer dropped because its statement failed is kept from ours too: everything that hangs on it can be compared then. That ours
   * indexes it is shown by a test of its own.
   */
  constructor(db: DatabasePool, seed: number, failed: readonly OfficialFailure[]) {
    this.#random = new Random(seed)
    this.#index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
    const [left, invalid] = [new Set<string>(), new Set<string>()]
    for (const { uri, rev, reason } of failed) (reason === 'empty insert' ? left : invalid).add(`${uri} ${rev}`)
    this.#left = left
    this.#invalid = invalid
  }

  async apply(recorded: readonly StreamEvent[]): Promise<void> {
    const events = recorded.filter((event) => !('rkey' in event && this.#left.has(`${uriOf(event)} ${event.rev}`)))
    for (let at = 0; at < events.length;) {
      const size = this.#random.chance(0.2) ? 1 : 1 + this.#random.below(80)
      const { refused } = await applyBatch(this.#index, events.slice(at, at + size))
      this.refused.push(...refused)
      this.batches++
      at += size
    }
    this.#fed(events)
  }

  /** Carries out what waits beside the data path. */
  async settle(handles: Handles): Promise<void> {
    await workBeside(this.#index, handles)
  }

  #fed(events: readonly StreamEvent[]): void {
    this.events.push(...events)
    this.happened.note(events, this.#invalid)
  }
}
