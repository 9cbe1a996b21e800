/**
 * A verified export → chunks of events. Pure.
 *
 * A chunk has up to 500 `create`s, each with the head's commit and rev. For a resync it also says which key range it covers and
 * which keys exist in it; the ranges tile the whole repository, so that whoever applies all chunks, in any order, knows of
 * each key whether it exists. Keys of collections that are not carried are named all the same: they exist.
 */
import type { CollectionFilter } from '@sluice/atproto/collection-filter.ts'
import type { ExportedRecord, RepoExport, UnwantedRecord } from '@sluice/atproto/repo-export.ts'
import type { OpRefusal } from '@sluice/atproto/commit-events.ts'
import { SEQ_BACKFILL, type CreateEvent, type RepoEvent } from '@sluice/events/stream-event.ts'

export interface ChunkLimits {
  creates: number
  /** Keys named in one range. */
  keys: number
  /** About so many characters of JSON; one record may be larger. */
  chars: number
}

/** A range with 5,000 keys is about 250 kB. A record may have 1 MB, and 500 of them would not fit an append. */
export const CHUNK_LIMITS: ChunkLimits = { creates: 500, keys: 5_000, chars: 4_000_000 }

export interface ExportChunk {
  creates: CreateEvent[]
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

/** The chunks of an export, at least one. */
export function* chunksOf(repo: RepoExport, options: ExportOptions): Generator<ExportChunk> {
  const { limits = CHUNK_LIMITS, resync } = options
  let builder = new ChunkBuilder(repo, options, '')
  for (const record of repo.records(options.wanted)) {
    // Its key cannot be written down, and nobody can hold it.
    if ('refused' in record && record.refused === 'op-bad-path') {
      builder.refused.push(record.refused)
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
  readonly refused: OpRefusal[] = []
  readonly #repo: RepoExport
  readonly #options: ExportOptions
  readonly #from: string
  readonly #keys: string[] = []
  readonly #creates: CreateEvent[] = []
  #filtered = 0
  #chars = 0

  constructor(repo: RepoExport, options: ExportOptions, from: string) {
    this.#repo = repo
    this.#options = options
    this.#from = from
  }

  isFull({ creates, keys, chars }: ChunkLimits): boolean {
    return this.#creates.length >= creates || this.#keys.length >= keys || this.#chars >= chars
  }

  add(exported: ExportedRecord | UnwantedRecord): void {
    if (this.#options.resync) this.#keys.push(exported.path)
    if ('unwanted' in exported) {
      this.#filtered++
      return
    }
    if ('refused' in exported) {
      this.refused.push(exported.refused)
      return
    }
    const { collection, rkey, cid, record, bytes } = exported
    const { did, commit, rev } = this.#repo
    const { time } = this.#options
    this.#chars += bytes
    this.#creates.push({ type: 'create', seq: SEQ_BACKFILL, time, did, commit, rev, collection, rkey, cid, record })
  }

  build(resync: boolean, to: string, isLast: boolean): ExportChunk {
    const { did, commit, rev } = this.#repo
    const { time } = this.#options
    const range: RepoEvent = { type: 'repo', time, did, commit, rev, range: [this.#from, to], keys: this.#keys }
    return {
      creates: this.#creates,
      ...(resync && { range }),
      isLast,
      refused: this.refused,
      filtered: this.#filtered,
    }
  }
}
