/**
 * The incidents of pending entries that had no body: somebody deleted or trimmed entries that were not acked. They are
 * reported once a minute at most, and what is left at the end of the run: one trim may make any number of them.
 */
import type { GroupAddress } from './entries.ts'
import type { Incident } from './incidents.ts'

const TELL_MS = 60_000

export interface PhantomIncidentsOptions {
  address: GroupAddress
  report: (incident: Omit<Incident, 'role'>) => void
}

export class PhantomIncidents {
  readonly #options: PhantomIncidentsOptions
  /** Phantoms that no incident has reported yet. */
  #untold = 0
  #firstId = ''
  #tellAtMs = 0

  constructor(options: PhantomIncidentsOptions) {
    this.#options = options
  }

  /** These entries were pending and had no body. @param ids at least one, the oldest first */
  found(ids: readonly string[]): void {
    if (this.#untold === 0) this.#firstId = ids[0]!
    this.#untold += ids.length
  }

  /** Reports what was found, if the last report is at least a minute old. */
  tell(): void {
    if (performance.now() >= this.#tellAtMs) this.tellNow()
  }

  /** Reports what was found now. */
  tellNow(): void {
    if (this.#untold === 0) return
    const { address, report } = this.#options
    report({
      kind: 'phantom-entries',
      what: `${this.#untold} pending entries of ${address.stream} had no body (first ${this.#firstId}): somebody deleted them, or trimmed the stream, before they were acked`,
      action:
        'Their content is lost; the pending entries were cleared. Find out who trims the stream (XTRIM, XDEL, MAXLEN), then compare the index with its sources: `sluice sweep`',
    })
    this.#untold = 0
    this.#tellAtMs = performance.now() + TELL_MS
  }
}
