/**
 * Which stream goes first: while a stream has had entries lately, batches of the streams that `INDEXER_STREAMS` names after it are small, and
 * one lane works on one batch at a time across all streams.
 *
 * A batch holds its accounts and a processor for as long as it lasts, and a live event must not wait behind 8,000 backfill events, only behind one small batch, or
 * one part of what empties a large repository.
 * Events of one account are in the same lane of each stream, so that no batch waits in PostgreSQL for an account that a batch of another stream has locked. Measured in docs/benchmarks.md (Latency).
 */
import { Turns } from '@sluice/streams/turns.ts'

export class Precedence {
  /** By stream, in the order of urgency: when entries of it were read last. */
  readonly #readAtMs: number[]
  readonly #smallShare: number
  /** By lane. */
  readonly #turns: readonly Turns[]
  readonly #nowMs: () => number

  constructor(streams: number, lanes: number, smallShare: number, nowMs: () => number = () => performance.now()) {
    this.#readAtMs = Array.from({ length: streams }, () => -Infinity)
    this.#turns = Array.from({ length: lanes }, () => new Turns())
    this.#smallShare = smallShare
    this.#nowMs = nowMs
  }

  /** Entries of the stream at `index` were read. */
  read(index: number): void {
    this.#readAtMs[index] = this.#nowMs()
  }

  /** Resolves when no stream works in this lane, first come, first served; until the result is disposed of, none other does. */
  async turn(lane: number): Promise<Disposable> {
    return await this.#turns[lane]!.enter('exclusive')
  }

  /** The part of a full batch that the next one of the stream at `index` may have. */
  batchShare(index: number): number {
    const since = this.#nowMs() - LATELY_MS
    return this.#readAtMs.slice(0, index).some((at) => at > since) ? this.#smallShare : 1
  }
}

/** Longer than the pauses of a stream that flows, and than its longest batch. */
const LATELY_MS = 2_000
