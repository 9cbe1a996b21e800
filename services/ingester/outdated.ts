/**
 * Whether an `OutdatedCursor` is news. With it a relay says that it no longer has everything after our cursor. That is
 * an incident and requests a sweep, but only when more is lost than at the last time. Nothing more is lost while the
 * relay repeats itself on one connection, or while the next connections begin at the same cursor.
 */

/**
 * A PDS keeps its events for a day, relays for longer. So events that are lost within a day of the last news were made
 * before it, and the sweep that was requested then finds them. Events that are lost later may be younger than that
 * sweep.
 */
const KEPT_MS = 24 * 3_600_000

export class Outdated {
  #isTold = false
  #last: { position: number | undefined; atMs: number } | undefined

  /** Another connection begins. */
  connected(): void {
    this.#isTold = false
  }

  /**
   * The relay has said so.
   * @param position the highest that was taken; undefined: none ever
   * @returns whether more is lost than before
   */
  isNews(position: number | undefined, nowMs: number): boolean {
    if (this.#isTold) return false
    this.#isTold = true
    const last = this.#last
    if (last !== undefined && last.position === position && nowMs - last.atMs < KEPT_MS) return false
    this.#last = { position, atMs: nowMs }
    return true
  }
}
