/**
 * The stream of a network's first load: repositories one after the other, each with the events that the backfiller makes of it (services/backfiller/export-events.ts). These are the existing records in the
 * order of their paths, and then the `repo` event.
 */
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { streamEventCodec, type EntryFields } from '@sluice/events/codec.ts'
import {
  pathOf,
  SEQ_BACKFILL,
  type CreateEvent,
  type RecordEvent,
  type StreamEvent,
  type UpdateEvent,
} from '@sluice/events/stream-event.ts'
import { guardDirectory, unguardDirectory } from '../guard.ts'

/** Events are distributed by account to so many files, since the events of a large network do not fit into memory at once. */
const FILES = 64
const FLUSH_CHARS = 1_000_000

export class Exports implements Disposable {
  readonly #dir = mkdtempSync(join(tmpdir(), 'sluice-bench-'))
  readonly #lines: string[] = Array.from({ length: FILES }, () => '')
  readonly #files = new Map<string, number>()

  constructor() {
    guardDirectory(this.#dir)
  }

  /** Takes the events of a network, in their natural order. */
  add(events: Iterable<RecordEvent>): void {
    for (const event of events) {
      let file = this.#files.get(event.did)
      if (file === undefined) this.#files.set(event.did, (file = this.#files.size % FILES))
      this.#lines[file] += `${JSON.stringify(event)}\n`
      if (this.#lines[file]!.length > FLUSH_CHARS) this.#flush(file)
    }
  }

  /** Yields the stream entries of a first load of the network, some repositories at a time. */
  *entries(): Generator<EntryFields[]> {
    for (let file = 0; file < FILES; file++) {
      this.#flush(file)
      const events = readFileSync(this.#path(file), 'utf8').split('\n').filter(Boolean)
      const byAccount = Map.groupBy(
        events.map((line) => JSON.parse(line) as RecordEvent),
        ({ did }) => did,
      )
      yield [...byAccount.values()].flatMap(exportOf).map((event) => streamEventCodec.encode(event))
    }
  }

  #flush(file: number): void {
    appendFileSync(this.#path(file), this.#lines[file]!)
    this.#lines[file] = ''
  }

  #path(file: number): string {
    return join(this.#dir, `${file}.jsonl`)
  }

  [Symbol.dispose](): void {
    rmSync(this.#dir, { recursive: true })
    unguardDirectory(this.#dir)
  }
}

/** @param events of one account, at least one */
function exportOf(events: readonly RecordEvent[]): StreamEvent[] {
  const records = new Map<string, CreateEvent | UpdateEvent>()
  for (const event of events) {
    if (event.type === 'delete') records.delete(pathOf(event))
    else records.set(pathOf(event), event)
  }
  const { did, commit, rev, time } = events.at(-1)!
  const paths = [...records].sort(([a], [b]) => (a < b ? -1 : 1))
  return [
    ...paths.map(([, event]): CreateEvent => ({ ...event, type: 'create', seq: SEQ_BACKFILL, time, commit, rev })),
    { type: 'repo', time, did, commit, rev },
  ]
}
