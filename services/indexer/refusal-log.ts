/**
 * Logs which entries became dead letters and which records were refused: now and then one line of each, with how many
 * there were for each reason and a sample that can be looked up. How many there are is for strangers to say, and
 * writing a line is synchronous.
 */
import type { EntryFields } from '@sluice/events/codec.ts'
import type { Refused } from '@sluice/indexing/prepare.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import type { BuriedEntry } from '@sluice/streams/consumer.ts'

const EVERY_MS = 10_000
const SAMPLE_CHARS = 400
/** A URI may have thousands of characters; half of a sample is for the reason. */
const SUBJECT_CHARS = 200

type Seen = Record<string, { count: number; sample: string }>

export class RefusalLog implements Disposable {
  readonly #log: Logger
  readonly #timer: NodeJS.Timeout
  #letters = new Map<string, Seen>()
  #refused: Seen = {}

  constructor(log: Logger, everyMs = EVERY_MS) {
    this.#log = log
    this.#timer = setInterval(() => this.flush(), everyMs).unref()
  }

  /** An entry became a dead letter. @param reason from a closed list */
  letter(stream: string, reason: string, { entryId, fields, message }: BuriedEntry): void {
    const seen = this.#letters.get(stream) ?? {}
    this.#letters.set(stream, seen)
    note(seen, reason, () => `${subjectOf(fields).slice(0, SUBJECT_CHARS)}, entry ${entryId}: ${message}`)
  }

  /** A record was not indexed. */
  record({ uri, reason, detail }: Refused): void {
    note(this.#refused, reason, () => `${uri.slice(0, SUBJECT_CHARS)}: ${detail}`)
  }

  flush(): void {
    const [letters, refused] = [this.#letters, this.#refused]
    this.#letters = new Map()
    this.#refused = {}
    for (const [stream, reasons] of letters)
      this.#log.warn(
        { stream, reasons },
        `entries of ${stream} became dead letters: how many for each reason, with a sample. Look at them with \`sluice dlq list\``,
      )
    if (Object.keys(refused).length > 0)
      this.#log.info({ refused }, 'records are not indexed: how many for each reason, with a sample')
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.flush()
  }
}

/** @param text made only for the first of a reason: it reads the whole entry */
function note(seen: Seen, reason: string, text: () => string): void {
  const known = seen[reason]
  if (known) known.count++
  else seen[reason] = { count: 1, sample: text().slice(0, SAMPLE_CHARS) }
}

/** The record, the account or the subject of the label that an entry is about. The entry may be damaged. */
function subjectOf({ event = '' }: EntryFields): string {
  try {
    const { did, collection, rkey, label } = JSON.parse(event) as Subject
    if (label !== undefined) return `${label.uri}`
    return collection === undefined ? `${did}` : `at://${did}/${collection}/${rkey}`
  } catch {
    return 'unreadable'
  }
}

/** What an entry that is whole has, of an event or of a label. */
interface Subject {
  did?: string
  collection?: string
  rkey?: string
  label?: { uri?: string }
}
