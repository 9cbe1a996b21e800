/**
 * Logs what was refused, and what hosts tell us: one line of each now and then, with a count and a sample of each kind.
 * A stream of bad frames must not become a stream of lines: writing a line is synchronous, and strangers would decide
 * how many there are.
 */
import type { Logger } from '@sluice/runtime/log.ts'

const EVERY_MS = 10_000
const SAMPLE_CHARS = 200
/** The names that hosts are known to use. All other names count as one. */
const NEWS: ReadonlySet<string> = new Set(['OutdatedCursor', 'FutureCursor', 'ConsumerTooSlow'])

type Seen = Record<string, { count: number; sample: string }>

export class Refusals implements Disposable {
  readonly #log: Logger
  readonly #timer: NodeJS.Timeout
  #refused: Seen = {}
  #told: Seen = {}

  constructor(log: Logger, everyMs = EVERY_MS) {
    this.#log = log
    this.#timer = setInterval(() => this.flush(), everyMs).unref()
  }

  /**
   * @param who account or host
   * @param reason from a closed list
   */
  note(who: string, reason: string, detail: string): void {
    count(this.#refused, reason, `${who} ${detail}`)
  }

  /** A host has said something about itself or our connection. */
  hear(host: string, name: string, text = ''): void {
    count(this.#told, NEWS.has(name) ? name : 'other', `${host} ${name} ${text}`)
  }

  flush(): void {
    const [refused, told] = [this.#refused, this.#told]
    this.#refused = {}
    this.#told = {}
    if (Object.keys(refused).length > 0)
      this.#log.warn({ refused }, 'refused what hosts sent: how often for each reason, with a sample')
    if (Object.keys(told).length > 0)
      this.#log.warn({ told }, 'hosts sent notices: how many of each kind, with a sample')
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.flush()
  }
}

function count(seen: Seen, kind: string, text: string): void {
  const known = seen[kind]
  if (known) known.count++
  else seen[kind] = { count: 1, sample: text.slice(0, SAMPLE_CHARS) }
}
