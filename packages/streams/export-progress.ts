/**
 * How many chunks of an export are in the stream: kept in Redis, and moved with each of them.
 *
 * A Redis that comes back older than it was (a power cut, a failover, a flush) may have lost a chunk from the middle of an export whose backfiller waited the outage out. The last
 * chunk would settle the chain record all the same, and nobody would ask for the repository again. So a chunk is appended only when the one before it is still there.
 */
import { randomBytes } from 'node:crypto'
import type { Step } from './producer.ts'

/** A hash: DID → token of the try and number of its chunks, of exports that are under way or were given up. */
export const exportsKey = (stream: string): string => `${stream}:exports`

/** The progress of one try to append one export. Each try has a token of its own: once another try has begun to append, the chunks of this one are refused. */
export class ExportProgress {
  readonly #address: { key: string; field: Buffer }
  readonly #token = randomBytes(8)
  #chunks = 0

  constructor(stream: string, did: string) {
    this.#address = { key: exportsKey(stream), field: Buffer.from(did) }
  }

  /**
   * The steps to append with the next chunk. That append fails with a `StateConflictError` when the chunk before it is not there any more, another try has begun, or an answer
   * got lost: the progress had moved already.
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
