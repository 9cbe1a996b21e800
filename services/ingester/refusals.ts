/** Tells the log what was refused: one line in a while with the counts and a sample each, since a stream of bad frames must not become a stream of lines. */
import type { Logger } from '@sluice/runtime/log.ts'

const EVERY_MS = 10_000
const DETAIL_CHARS = 200

export class Refusals {
  readonly #log: Logger
  readonly #timer: NodeJS.Timeout
  #seen = new Map<string, { count: number; sample: string }>()

  constructor(log: Logger, everyMs = EVERY_MS) {
    this.#log = log
    this.#timer = setInterval(() => this.flush(), everyMs).unref()
  }

  /** @param reason from a closed list */
  note(did: string, reason: string, detail: string): void {
    const seen = this.#seen.get(reason)
    if (seen) seen.count++
    else this.#seen.set(reason, { count: 1, sample: `${did} ${detail}`.slice(0, DETAIL_CHARS) })
  }

  flush(): void {
    if (this.#seen.size === 0) return
    this.#log.warn({ refused: Object.fromEntries(this.#seen) }, 'frames were refused')
    this.#seen = new Map()
  }

  close(): void {
    clearInterval(this.#timer)
    this.flush()
  }
}
