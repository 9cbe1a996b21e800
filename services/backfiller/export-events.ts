/**
 * A verified export → chunks of events. Pure.
 *
 * A chunk has up to 500 `create`s, kept as JSON text (as objects, 17 records of empty maps, 4 MB of text, took 288 MB), each with the head's commit and rev. For a resync
 * it also says which key range it covers and which keys exist in it; the ranges tile the whole repository, so that whoever applies all chunks, in any order, knows of
 * each key whether it exists. Keys of collections that are not carried are named too: they exist.
 */
import type { ExportedRecord, RepoExport, UnwantedRecord } from '@sluice/atproto/repo-export.ts'
import type { OpRefusal } from '@sluice/atproto/commit-events.ts'
import type { CollectionFilter } from '@sluice/collections/patterns.ts'
import { streamEventCodec, type EntryEncoder } from '@sluice/events/codec.ts'
import { SEQ_BACKFILL, type RepoEvent, type StreamEvent } from '@sluice/events/stream-event.ts'

export interface ChunkLimits {
  creates: number
  /** Keys that are looked at for one chunk, carried or not; a range names them. */
  keys: number
  /** About so many characters of JSON; one record may be larger. What cannot be decoded counts too: it was work. */
  chars: number
}

/** An event, or the JSON of one. */
export type ExportEvent = StreamEvent | string

export const exportEventEncoder: EntryEncoder<ExportEvent> = {
  encode: (event) => (typeof event === 'string' ? { event } : streamEventCodec.encode(event)),
}

/**
 * A range with 5,000 keys is about 250 kB. A record may have 1 MB, and 500 of them would not fit an append. Whoever takes the chunks can let others
 * have the thread between two of them, so none may be long in the making, whatever the records are.
 */
export const CHUNK_LIMITS: ChunkLimits = { creates: 500, keys: 5_000, chars: 4_000_000 }

export interface ExportChunk {
  /** Events as JSON. */
  creates: string[]
  /** Present for a resync. */
  range?: RepoEvent
  isLast: boolean
  /** Records that could not be carried. */
  refused: OpRefusal[]
  /** Records of collections that nobody wants. */
  filtered: number
}

export interface ExportOptions {
  /** When it was read (ISO 8601). */
  time: string
  resync: boolean
  wanted: CollectionFilter
  limits?: ChunkLimits
}

/** The chunks of an export, at least one. Those but the last may be without events: there was much to look at, and nothing to carry. */
export function* chunksOf(repo: RepoExport, options: ExportOptions): Generator<ExportChunk> {
  const { limits = CHUNK_LIMITS, resync } = options
  let builder = new ChunkBuilder(repo, options, '')
  for (const record of repo.records(options.wanted)) {
    // Its key cannot be written down, and nobody can hold it.
    if ('refused' in record && record.refused === 'op-bad-path') {
      if (builder.refuse(record.refused) >= limits.keys) yield builder.pause()
      continue
    }
    if (builder.isFull(limits)) {
      yield builder.build(resync, record.path, false)
      builder = new ChunkBuilder(repo, options, record.path)
    }
    builder.add(record)
  }
  yield builder.build(resync, '', true)
}

/** What ends an export: the repository is at this commit. */
export function headOf({ did, commit, rev }: RepoExport, time: string): RepoEvent {
  return { type: 'repo', time, did, commit, rev }
}

class ChunkBuilder {
  readonly #repo: RepoExport
  readonly #options: ExportOptions
  readonly #from: string
  readonly #keys: string[] = []
  readonly #creates: string[] = []
  #refused: OpRefusal[] = []
  #filtered = 0
  #lookedAt = 0
  #chars = 0

  constructor(repo: RepoExport, options: ExportOptions, from: string) {
    this.#repo = repo
    this.#options = options
    this.#from = from
  }

  isFull({ creates, keys, chars }: ChunkLimits): boolean {
    return this.#creates.length >= creates || this.#lookedAt >= keys || this.#chars >= chars
  }

  /** Returns how many records were refused since the last pause. */
  refuse(reason: OpRefusal): number {
    return this.#refused.push(reason)
  }

  add(exported: ExportedRecord | UnwantedRecord): void {
    this.#lookedAt++
    if (this.#options.resync) {
      this.#keys.push(exported.path)
      this.#chars += exported.path.length
    }
    if ('unwanted' in exported) {
      this.#filtered++
      return
    }
    if ('refused' in exported) {
      this.#chars += exported.bytes
      this.refuse(exported.refused)
      return
    }
    const { collection, rkey, cid, record } = exported
    const { did, commit, rev } = this.#repo
    const { time } = this.#options
    const event = { type: 'create', seq: SEQ_BACKFILL, time, did, commit, rev, collection, rkey, cid, record } as const
    const text = streamEventCodec.encode(event).event!
    this.#chars += text.length
    this.#creates.push(text)
  }

  /** A chunk of nothing but what was refused, where no range can end: such a key cannot be the bound of one. */
  pause(): ExportChunk {
    const refused = this.#refused
    this.#refused = []
    return { creates: [], isLast: false, refused, filtered: 0 }
  }

  build(resync: boolean, to: string, isLast: boolean): ExportChunk {
    const { did, commit, rev } = this.#repo
    const { time } = this.#options
    const range: RepoEvent = { type: 'repo', time, did, commit, rev, range: [this.#from, to], keys: this.#keys }
    return {
      creates: this.#creates,
      ...(resync && { range }),
      isLast,
      refused: this.#refused,
      filtered: this.#filtered,
    }
  }
}
