/**
 * A verified export → chunks of events. Pure.
 *
 * A chunk has up to 500 `create`s, each with the commit and rev of the repository's head. They are kept as JSON text:
 * as objects, 17 records of empty maps (4 MB of text) took 288 MB.
 *
 * For a resync, each chunk also names a key range that it covers, and the keys that exist in this range. The ranges
 * tile the whole repository. So a reader that applies all chunks, in any order, knows of each key whether it exists.
 * Keys of collections that are not carried are named too, since they exist.
 */
import type { ExportedRecord, RepoExport, UnwantedRecord } from '@sluice/atproto/repo-export.ts'
import type { OpRefusal } from '@sluice/atproto/commit-events.ts'
import type { CollectionFilter } from '@sluice/collections/patterns.ts'
import { streamEventCodec, type EntryEncoder } from '@sluice/events/codec.ts'
import { SEQ_BACKFILL, type RepoEvent, type StreamEvent } from '@sluice/events/stream-event.ts'

export interface ChunkLimits {
  creates: number
  /** The most keys that one chunk looks at, whether their records are carried or not. A range names them all. */
  keys: number
  /**
   * About so many characters of JSON; one record may be larger. A record that cannot be decoded counts with its bytes,
   * since it took work too.
   */
  chars: number
}

/** An event, or its JSON text. */
export type ExportEvent = StreamEvent | string

export const exportEventEncoder: EntryEncoder<ExportEvent> = {
  encode: (event) => (typeof event === 'string' ? { event } : streamEventCodec.encode(event)),
}

/**
 * A range with 5,000 keys is about 250 kB. A record may have 1 MB, and 500 of these would not fit an append. A chunk is
 * made without a pause: only between two chunks can the caller let others have the thread. So no chunk may take long to
 * make, whatever the records are.
 */
export const CHUNK_LIMITS: ChunkLimits = { creates: 500, keys: 5_000, chars: 4_000_000 }

export interface ExportChunk {
  /** The `create` events, as JSON text. */
  creates: string[]
  /** The key range of the chunk, and the keys that exist in it. Present for a resync only. */
  range?: RepoEvent
  isLast: boolean
  /** The reasons of records that could not be carried, one for each record. */
  refused: OpRefusal[]
  /** How many records were left out because their collections are not carried. */
  filtered: number
}

export interface ExportOptions {
  /** When the export was read (ISO 8601). */
  time: string
  resync: boolean
  wanted: CollectionFilter
  limits?: ChunkLimits
}

/**
 * The chunks of an export, at least one. Any chunk but the last may have no events: its part of the export had many
 * keys, and nothing to carry.
 */
export function* chunksOf(repo: RepoExport, options: ExportOptions): Generator<ExportChunk> {
  const { limits = CHUNK_LIMITS, resync } = options
  let builder = new ChunkBuilder(repo, options, '')
  for (const record of repo.records(options.wanted)) {
    // The key is no valid path. No event can name it, so no index holds a record with this key.
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

/**
 * The events of a chunk, in their order: the range comes first. From it on, an older commit cannot undo what the export
 * has. Otherwise one that came between a record and its range would remove a record which the export only repeats, and
 * the commit that wrote it last would be refused as older than the range.
 */
export function eventsOf({ creates, range }: Pick<ExportChunk, 'creates' | 'range'>): ExportEvent[] {
  return [...(range ? [range] : []), ...creates]
}

/** The event that ends an export: the repository is at this commit. */
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

  /** Counts a refused record. Returns how many records of this chunk were refused since the last pause. */
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

  /**
   * A chunk that has nothing but refused records, and no range. No range can end here: a key that is no valid path
   * cannot be a bound.
   */
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
