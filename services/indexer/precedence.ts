/**
 * Which stream goes first: while one has had entries lately, batches of those that `INDEXER_STREAMS` names after it are small.
 *
 * A batch holds its accounts and a processor for as long as it lasts, and an event that has just happened is not to wait until 8,000 of a backfill are
 * done. Measured in docs/benchmarks.md (Latency).
 */
export class Precedence {
  /** By stream, in the order of urgency: when entries of it were read last. */
  readonly #readAtMs: number[]
  readonly #smallShare: number
  readonly #nowMs: () => number

  constructor(streams: number, smallShare: number, nowMs: () => number = () => performance.now()) {
    this.#readAtMs = Array.from({ length: streams }, () => -Infinity)
    this.#smallShare = smallShare
    this.#nowMs = nowMs
  }

  /** Entries of the stream at `index` were read. */
  read(index: number): void {
    this.#readAtMs[index] = this.#nowMs()
  }

  /** The part of a full batch that the next one of the stream at `index` may have. */
  batchShare(index: number): number {
    const since = this.#nowMs() - LATELY_MS
    return this.#readAtMs.slice(0, index).some((at) => at > since) ? this.#smallShare : 1
  }
}

/** Longer than the pauses of a stream that flows, and than its longest batch. */
const LATELY_MS = 2_000
