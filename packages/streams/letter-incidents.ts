/**
 * The incidents of one stream's dead letters. That entries became dead letters is reported once a minute at most: the
 * letters themselves tell the rest. That the dead letters are almost full, or full, is reported with the next letter,
 * every ten minutes at most.
 */
import { deadLetterStream } from './dead-letters.ts'
import type { Incident } from './incidents.ts'

const TELL_MS = 60_000
const ALARM_MS = 600_000
/** From this share of the allowed dead letters on, they count as almost full. */
const ALARM_RATIO = 0.8

export interface LetterIncidentsOptions {
  stream: string
  /** Dead letters that the stream may have. */
  allowed: number
  report: (incident: Omit<Incident, 'role'>) => void
}

export class LetterIncidents {
  readonly #options: LetterIncidentsOptions
  /** Dead letters that no incident has reported yet. */
  #untold = 0
  #tellAtMs = 0
  #alarmAtMs = 0

  constructor(options: LetterIncidentsOptions) {
    this.#options = options
  }

  /**
   * One more dead letter was stored.
   * @param total how many there are now
   */
  added(total: number): void {
    this.#untold += 1
    if (total >= this.#options.allowed * ALARM_RATIO) this.#alarm(`hold ${total} entries`)
  }

  /** There was no room for a dead letter. */
  full(): void {
    this.#alarm('are full, and the stream waits')
  }

  /** Reports the added letters, if the last report is at least a minute old. */
  tell(): void {
    if (performance.now() >= this.#tellAtMs) this.tellNow()
  }

  /** Reports the added letters now. */
  tellNow(): void {
    if (this.#untold === 0) return
    const { stream, report } = this.#options
    report({
      kind: 'dead-letters',
      what: `${this.#untold} entries of ${stream} could not be applied and became dead letters`,
      action: `they wait in ${deadLetterStream(stream)} until an operator retries or drops them`,
    })
    this.#untold = 0
    this.#tellAtMs = performance.now() + TELL_MS
  }

  #alarm(what: string): void {
    if (performance.now() < this.#alarmAtMs) return
    this.#alarmAtMs = performance.now() + ALARM_MS
    const { stream, allowed, report } = this.#options
    report({
      kind: 'dead-letters',
      what: `the dead letters of ${stream} ${what}; ${allowed} are allowed`,
      action: 'look at them with `sluice dlq list`, mend the cause, then retry or drop them; nothing is lost meanwhile',
    })
  }
}
