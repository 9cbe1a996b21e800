/**
 * What happened in a simulated world: its own record of what was written, kept without a look at the index or at any
 * code of ours that reads, judges or counts. What the index must hold follows from it: rows (`true-rows.ts`), verdicts
 * on replies and quotes (`true-verdicts.ts`), notifications and counters (`true-counts.ts`).
 */

export interface TrueRecord {
  did: string
  collection: string
  cid: string
  /** Lexicon JSON. */
  record: Record<string, unknown>
  /**
   * When the path was written for the first time, and when this version was: milliseconds by the world's clock. An
   * edited record is known to the index as of some time between these.
   */
  first: number
  at: number
}

/**
 * A version that is no longer there. Of its record only that is kept by which others are judged, or of which somebody
 * was told.
 */
export interface EndedRecord extends TrueRecord {
  until: number
}

export interface TrueLabel {
  src: string
  uri: string
  cid: string
  val: string
  neg: boolean
  cts: string
  exp: string | null
}

/** The head of a repository. */
export interface TrueHead {
  commit: string
  rev: string
}

type Kept = (record: Record<string, unknown>) => Record<string, unknown>
const whole: Kept = (record) => record

/** What is kept of the versions that ended, by collection; of the others nothing is. */
const KEPT: Readonly<Record<string, Kept>> = {
  'app.bsky.feed.post': ({ reply, facets }) => ({ reply, facets }),
  'app.bsky.feed.threadgate': whole,
  'app.bsky.feed.postgate': whole,
  'app.bsky.graph.follow': whole,
  'app.bsky.graph.listitem': whole,
  'app.bsky.graph.verification': whole,
}

export class Truth {
  /** By URI; living ones only. */
  readonly records = new Map<string, TrueRecord>()
  /** By URI, the versions that ended, in order. */
  readonly ended = new Map<string, EndedRecord[]>()
  /** By `src uri cid val`. */
  readonly labels = new Map<string, TrueLabel>()
  /** By DID; undefined: active. */
  readonly statuses = new Map<string, string | undefined>()
  /** By DID. */
  readonly heads = new Map<string, TrueHead>()
  /** Exports are read later than this (ISO 8601). */
  readonly startedAt = new Date().toISOString()

  /** @param begun the beginning of its commit */
  write(uri: string, { begun, ...version }: Omit<TrueRecord, 'first'> & { begun: number }): void {
    const first = this.records.get(uri)?.first ?? this.ended.get(uri)?.[0]?.first ?? begun
    this.#end(uri, version.at)
    this.records.set(uri, { ...version, first })
  }

  remove(uri: string, at: number): void {
    this.#end(uri, at)
    this.records.delete(uri)
  }

  /** The account is gone, with all it wrote. */
  removeAccount(did: string, at: number): void {
    for (const [uri, record] of this.records) if (record.did === did) this.remove(uri, at)
    this.statuses.set(did, 'deleted')
  }

  of(collection: string): [uri: string, record: TrueRecord][] {
    return [...this.records].filter(([, record]) => record.collection === collection)
  }

  /** Versions of a collection that ended, with their URIs. */
  endedOf(collection: string): [uri: string, record: EndedRecord][] {
    return [...this.ended].flatMap(([uri, versions]) =>
      versions[0]!.collection === collection ? versions.map((one): [string, EndedRecord] => [uri, one]) : [],
    )
  }

  isDeleted(did: string): boolean {
    return this.statuses.get(did) === 'deleted'
  }

  #end(uri: string, until: number): void {
    const old = this.records.get(uri)
    const kept = old && KEPT[old.collection]
    if (!kept) return
    const versions = this.ended.get(uri) ?? []
    versions.push({ ...old, record: kept(old.record), until })
    this.ended.set(uri, versions)
  }
}

/** The account of an AT URI, which names it by DID. */
export function accountOf(uri: string): string {
  return uri.split('/')[2]!
}

export function keyOfUri(uri: string): string {
  return uri.split('/')[4]!
}

/** A date in the form that the AppView sorts by. */
export function normalDate(date: string): string {
  return new Date(date).toISOString()
}

export function earlier(a: string, b: string): string {
  return a < b ? a : b
}
