/**
 * Makes findings durable, in the order given. Their events, the chain records, the resync requests, the cursors and the
 * ledger move in one atomic step. Findings of one account come in order, those of different accounts or upstreams in
 * any.
 *
 * One append is under way at a time, and the next one takes everything that has come meanwhile: one finding when there
 * is little to do, `batchEvents` when there is much.
 */
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { backfillEventCodec } from '@sluice/events/codec.ts'
import { moveChains, type StoredChain } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { StateConflictError, type Producer, type Step } from '@sluice/streams/producer.ts'
import { retry, type BackoffPolicy } from '@sluice/runtime/backoff.ts'
import type { Chains } from './chains.ts'
import { decide, type Decision, type Finding } from './decide.ts'
import type { TrueCommit } from './verifier.ts'
import type { Slot } from './progress.ts'
import type { ResyncLimit } from './resync-limit.ts'
import type { Source } from './source.ts'

/** A finding with what waits for it. */
export interface QueuedFinding {
  finding: Finding
  source: Source
  slot: Slot
  /** The bytes taken from the memory budgets: for the frame, and for the events that it became. */
  held: { frame: number; text: number }
}

export interface JournalOptions {
  redis: Redis
  /** Its entries are JSON already. */
  producer: Producer<string>
  chains: Chains
  resyncLimit: ResyncLimit
  repoStream: string
  batchEvents: number
  batchMs: number
  /** Whether no frame is being worked on: then there is nothing to wait for. */
  isQuiet: () => boolean
  observer: JournalObserver
}

export interface JournalObserver {
  /** A batch is durable. */
  stored(findings: readonly QueuedFinding[], decision: Decision): void
  /** An append took so long. */
  appended(seconds: number): void
  /** Another process has moved so many chain records at the same time. */
  conflict(records: number): void
  trouble(error: Error, delayMs: number): void
}

/** The size of one append. Together with the largest commit, this bounds what Redis is given at once. */
const BATCH_BYTES = 4 << 20
const READ_BACKOFF: BackoffPolicy = { baseMs: 100, capMs: 5_000, healthyAfterMs: 1_000 }

export class Journal {
  readonly #options: JournalOptions
  #queue: QueuedFinding[] = []
  #oldestAt = 0
  /**
   * A finding of our shard waits. Those of other shards only move the cursor: they wait until their batch is full, or
   * `batchMs` have passed.
   */
  #isPressing = false
  #closed = false
  #wake: (() => void) | undefined

  constructor(options: JournalOptions) {
    this.#options = options
  }

  add(queued: QueuedFinding): void {
    if (this.#queue.length === 0) this.#oldestAt = performance.now()
    this.#queue.push(queued)
    this.#isPressing ||= !isOfOtherShard(queued)
    if (this.#queue.length === 1 || this.#queue.length >= this.#options.batchEvents) this.#wake?.()
  }

  /** No frame is being worked on any more: the findings need not wait. */
  quiet(): void {
    this.#wake?.()
  }

  /** Nothing more will be added: `run` returns when all findings are durable. */
  close(): void {
    this.#closed = true
    this.#wake?.()
  }

  /**
   * Stores findings until `close`.
   * @throws FatalError; AbortError on the signal (what was not stored is read again)
   */
  async run(signal: AbortSignal): Promise<void> {
    for (let batch = await this.#take(); batch.length > 0; batch = await this.#take()) await this.#store(batch, signal)
  }

  async #take(): Promise<QueuedFinding[]> {
    while (!this.#isDue()) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      const restMs = this.#options.batchMs - (performance.now() - this.#oldestAt)
      const timer = this.#queue.length > 0 ? setTimeout(resolve, Math.max(restMs, 1)) : undefined
      await promise
      clearTimeout(timer)
      this.#wake = undefined
    }
    const batch = this.#queue.splice(0, this.#fitting())
    this.#isPressing &&= this.#queue.length > 0
    return batch
  }

  #isDue(): boolean {
    if (this.#queue.length === 0) return this.#closed
    const { batchEvents, batchMs, isQuiet } = this.#options
    return (
      this.#closed ||
      this.#queue.length >= batchEvents ||
      (this.#isPressing && isQuiet()) ||
      performance.now() - this.#oldestAt >= batchMs
    )
  }

  /** How many of the waiting findings fit into one append; at least one. */
  #fitting(): number {
    let events = 0
    let bytes = 0
    let count = 0
    for (const { finding, held } of this.#queue) {
      const { what } = finding
      events += what.kind === 'commit' ? Math.max(what.entries.length, 1) : 1
      bytes += held.frame + (what.kind === 'commit' ? textBytes(what) : 0)
      if (count > 0 && (events > this.#options.batchEvents || bytes > BATCH_BYTES)) break
      count++
    }
    return count
  }

  async #store(batch: readonly QueuedFinding[], signal: AbortSignal): Promise<void> {
    const { chains, observer } = this.#options
    const accounts = new Set(batch.flatMap(({ finding: { did, what } }) => (needsChain(what) ? did : [])))
    for (;;) {
      const known = await this.#read(accounts, signal)
      const decision = await this.#decide(batch, known)
      try {
        await this.#append(batch, decision, known, signal)
        return
      } catch (error) {
        if (!(error instanceof StateConflictError)) throw error
        observer.conflict(error.swaps.length)
        // All records are read again, not only those that failed: Redis may have gone back in time.
        chains.forget(accounts)
      }
    }
  }

  /** Decides what the batch means, by what is `known` of its accounts. Each slot gets its outcome. */
  async #decide(batch: readonly QueuedFinding[], known: ReadonlyMap<string, StoredChain>): Promise<Decision> {
    const findings = batch.map(({ finding }) => finding)
    const records = new Map([...known].map(([did, { record }]) => [did, record]))
    const decision = decide(findings, records, await this.#options.resyncLimit.now())
    for (const [i, { slot }] of batch.entries()) slot.outcome = decision.outcomes[i]!
    return decision
  }

  /**
   * Stores a decision with the cursors that it moves, and notes what is durable now.
   * @throws StateConflictError when another process has moved a chain record meanwhile: then nothing is stored
   */
  async #append(
    batch: readonly QueuedFinding[],
    decision: Decision,
    known: ReadonlyMap<string, StoredChain>,
    signal: AbortSignal,
  ): Promise<void> {
    const { producer, chains, resyncLimit, observer } = this.#options
    const { entries, records, requests } = decision
    const moves = moveChains(records, known)
    const sources = [...new Set(batch.map(({ source }) => source))]
    const advances = sources.flatMap((source) => source.advance() ?? [])
    const cursor = advances.flatMap(({ move }) => move ?? [])
    const also = [...moves, ...this.#requests(requests), ...advances.flatMap(({ steps }) => steps)]
    const isNothing = entries.length + cursor.length + also.length === 0
    const began = performance.now()
    if (!isNothing) await producer.append(entries, signal, { cursor, also })
    observer.appended((performance.now() - began) / 1_000)
    for (const [i, did] of [...records.keys()].entries()) chains.stored(did, moves[i]!.to)
    for (const advance of advances) advance.stored()
    for (const { progress } of sources) progress.fold()
    resyncLimit.spend(requests.map(({ did }) => did))
    observer.stored(batch, decision)
  }

  async #read(accounts: Iterable<string>, signal: AbortSignal): Promise<Map<string, StoredChain>> {
    const { chains, observer } = this.#options
    const read = () => chains.read(accounts)
    return retry(signal, READ_BACKOFF, read, ({ error, delayMs }) => observer.trouble(error, delayMs))
  }

  #requests(requests: readonly BackfillEvent[]): Step[] {
    if (requests.length === 0) return []
    const values = requests.map((request) => backfillEventCodec.encode(request).repo!)
    return [{ step: 'add', stream: this.#options.repoStream, field: 'repo', values }]
  }
}

/** The length of a commit's events as JSON. */
export function textBytes({ entries }: TrueCommit): number {
  return entries.reduce((sum, { length }) => sum + length, 0)
}

function isOfOtherShard({ finding: { what } }: QueuedFinding): boolean {
  return what.kind === 'ended' && what.outcome === 'other-shard'
}

function needsChain(what: Finding['what']): boolean {
  return what.kind !== 'ended' && what.kind !== 'event'
}
