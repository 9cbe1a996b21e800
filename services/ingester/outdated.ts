/**
 * Whether a relay that no longer has what followed our cursor (`OutdatedCursor`) has lost more than it had when it said so last: that is an incident, and asks for a sweep.
 * Nothing is lost anew while it repeats that on one connection, nor while the next ones begin where that one did.
 */

/**
 * A PDS keeps its events for a day, and relays for longer. So what is lost within a day was made before, and the sweep finds it; what is lost later may not have been.
 */
const KEPT_MS = 24 * 3_600_000

export class Outdated {
  #isTold = false
  #last: { position: number | undefined; atMs: number } | undefined

  /** Another connection begins. */
  connected(): void {
    this.#isTold = false
  }

  /** It has said so. @param position the highest that was taken; undefined: none ever @returns whether more is lost than before */
  isNews(position: number | undefined, nowMs: number): boolean {
    if (this.#isTold) return false
    this.#isTold = true
    const last = this.#last
    if (last !== undefined && last.position === position && nowMs - last.atMs < KEPT_MS) return false
    this.#last = { position, atMs: nowMs }
    return true
  }
}
