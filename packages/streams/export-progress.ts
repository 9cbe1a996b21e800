/**
 * How many chunks of an export are in the stream. The number is kept in Redis and moves in the same step as each chunk.
 *
 * Why: a Redis that comes back older than it was (a power cut, a failover, a flush) may have lost a chunk from the
 * middle of an export whose backfiller waited until Redis was back. The last chunk would settle the chain record all
 * the same, and nobody would ask for the repository again. So a chunk is appended only when the chunk before it is
 * still there.
 */
import { randomBytes } from 'node:crypto'
import type { Step } from './producer.ts'

/** A hash: DID → token of the try and number of its chunks, for exports that are under way or were given up. */
export const exportsKey = (stream: string): string => `${stream}:exports`

/**
 * The progress of one try to append one export. Each try has a token of its own. Once another try has begun to append,
 * the chunks of this one are refused.
 */
export class ExportProgress {
  readonly #address: { key: string; field: Buffer }
  readonly #token = randomBytes(8)
  #chunks = 0

  constructor(stream: string, did: string) {
    this.#address = { key: exportsKey(stream), field: Buffer.from(did) }
  }

  /**
   * The steps to append with the next chunk. The append fails with a `StateConflictError` when the chunk before it is
   * gone, when another try has begun, or when an earlier answer got lost (then the progress has moved already).
   */
  next({ isLast }: { isLast: boolean }): Step[] {
    const from = this.#at(this.#chunks)
    const to = this.#at(++this.#chunks)
    if (this.#chunks === 1) return isLast ? [] : [{ step: 'put', ...this.#address, value: to }]
    return [{ step: 'swap', ...this.#address, from, to: isLast ? undefined : to }]
  }

  #at(chunks: number): Buffer {
    const at = Buffer.alloc(this.#token.length + 4)
    this.#token.copy(at)
    at.writeUInt32BE(chunks, this.#token.length)
    return at
  }
}
