/**
 * Whether an `OutdatedCursor` is news. A relay says by it that it no longer has all that followed our cursor: that is an incident, and asks for a sweep, but only when more is
 * lost than when it last said so. Nothing more is lost while it repeats itself on one connection, nor while the next connections begin where that one did.
 */

/**
 * A PDS keeps its events for a day, and relays for longer. So what is lost within a day of the last news was made before that, and the sweep that was asked for then finds it. What is
 * lost later may be younger than that sweep.
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
