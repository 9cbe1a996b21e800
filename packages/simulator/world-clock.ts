/**
 * The clock of a simulated world. It moves on by a second whenever somebody looks at it, so no two records are of the
 * same moment, and what a record's key, its date and the rev of its commit say of the order in which things were
 * written is the same.
 */
const FIRST_MS = Date.UTC(2026, 0, 1)

export class WorldClock {
  #ms = FIRST_MS

  /** Milliseconds since 1970. */
  next(): number {
    this.#ms += 1_000
    return this.#ms
  }
}
