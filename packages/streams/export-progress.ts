/**
 * How far the chunks of an export are in the stream: kept in Redis, moved with each of them.
 *
 * A Redis that comes back older than it was (a power cut, a failover, a flush) may have lost a chunk from the middle of an export, whose backfiller waited the outage out. Its last
 * chunk would settle the chain record all the same, and nobody would ask for the repository again. So a chunk goes in only where the one before it is known to be.
 */
import { randomBytes } from 'node:crypto'
import type { Step } from './producer.ts'

/** A hash: DID → token of the try and number of its chunks, of exports that are under way or were given up. */
export const exportsKey = (stream: string): string => `${stream}:exports`

/** Of one try to append one export. Another try has a token of its own, and the last one to begin is the one that goes on. */
export class ExportProgress {
  readonly #address: { key: string; field: Buffer }
  readonly #token = randomBytes(8)
  #chunks = 0

  constructor(stream: string, did: string) {
    this.#address = { key: exportsKey(stream), field: Buffer.from(did) }
  }

  /** What goes with the next chunk. The append fails with a `StateConflictError` when the chunk before it is not there any more, or its answer got lost. */
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
