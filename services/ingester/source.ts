/** One upstream as the journal sees it: its cursor, and the ledger of its frames' outcomes, both durable. */
import type { CursorMove, Step } from '@sluice/streams/producer.ts'
import { cursorKey, timeKey } from '@sluice/streams/cursors.ts'
import { ledgerKey } from '@sluice/streams/ledger.ts'
import { Progress } from './progress.ts'

/** What one append stores for a source. */
export interface SourceAdvance {
  /** Undefined when the cursor stays where it is. */
  move: CursorMove | undefined
  steps: Step[]
  /** To be called when the append is durable. */
  stored(): void
}

export class Source {
  readonly host: string
  readonly progress: Progress
  readonly #stream: string

  constructor(stream: string, host: string, cursor: number | undefined) {
    this.#stream = stream
    this.host = host
    this.progress = new Progress(cursor)
  }

  /** The frames that have ended and are not stored yet; undefined when there are none. */
  advance(): SourceAdvance | undefined {
    const advance = this.progress.advance()
    if (advance === undefined) return undefined
    const { cursor, time, counts } = advance
    const from = this.progress.cursor
    const key = cursorKey(this.#stream, this.host)
    const ledger = ledgerKey(this.#stream, this.host)
    const steps: Step[] = [...counts].map(([field, by]) => ({ step: 'count', key: ledger, field, by }))
    if (time !== undefined) steps.push({ step: 'set', key: timeKey(this.#stream, this.host), value: time })
    return {
      move: from === cursor ? undefined : { key, from: from === undefined ? null : String(from), to: String(cursor) },
      steps,
      stored: () => this.progress.moved(advance),
    }
  }
}
