/**
 * Decides which stream goes first. There are two rules: while a stream has had entries lately, batches of the streams
 * that `INDEXER_STREAMS` names after it are small; and a lane works on one batch at a time, across all streams.
 *
 * The reason: a batch holds the locks of its accounts, and a processor, until it ends. A live event must not wait
 * behind 8,000 backfill events, only behind one small batch, or behind one part of a batch that empties a large
 * repository.
 *
 * Events of one account are in the same lane in each stream. Since that lane runs one batch at a time, no batch waits
 * in PostgreSQL for an account that a batch of another stream has locked. Measured in docs/benchmarks.md (Latency).
 */
import { Turns } from '@sluice/streams/turns.ts'

export class Precedence {
  /** For each stream, the most urgent first: when entries of it were last read. */
  readonly #readAtMs: number[]
  readonly #smallShare: number
  /** One for each lane. */
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

  /**
   * Resolves when no stream works in this lane; first come, first served. The caller has the lane until it disposes of
   * the result.
   */
  async turn(lane: number): Promise<Disposable> {
    return await this.#turns[lane]!.enter('exclusive')
  }

  /** The part of a full batch that the next batch of the stream at `index` may have. */
  batchShare(index: number): number {
    const since = this.#nowMs() - LATELY_MS
    return this.#readAtMs.slice(0, index).some((at) => at > since) ? this.#smallShare : 1
  }
}

/** Longer than the pauses of a busy stream, and than its longest batch. */
const LATELY_MS = 2_000
