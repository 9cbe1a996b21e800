/**
 * Makes records of every collection from its lexicon and its plugin alone. So a test suite over all plugins covers a
 * new plugin as soon as it is listed.
 *
 * References are consistent: URIs and DIDs are those of one other account, or of the author where the collection asks
 * for that (gates, list items).
 */
import { schemas } from '@atproto/api'
import type { JsonRecord } from '@sluice/events/stream-event.ts'
import type { CollectionSet } from '../collection-set.ts'
import type { Collection } from '../define.ts'
import type { Entry } from '../record.ts'
import { random, type Random } from '../lexicon/testing/random.ts'
import { RecordMaker } from '../lexicon/testing/records.ts'

/** Where a record will be written. */
export interface Place {
  did: string
  rkey: string
  /** The account to which the record refers. */
  other: string
}

const CANDIDATES = 300
const TEXT_LEAST = 3

export class SampleMaker {
  readonly #set: CollectionSet
  readonly #entryOf: (plugin: Collection, place: Place, record: JsonRecord) => Entry
  readonly #documents: readonly { id: string; defs: Record<string, unknown> }[]

  /** @param entryOf makes the entry that the engine would give to the record's plugin */
  constructor(set: CollectionSet, entryOf: (plugin: Collection, place: Place, record: JsonRecord) => Entry) {
    this.#set = set
    this.#entryOf = entryOf
    const own = set.plugins.flatMap(({ lexicon }) => (lexicon ? [lexicon] : []))
    this.#documents = [...schemas, ...own] as readonly { id: string; defs: Record<string, unknown> }[]
  }

  /** The record key, when the lexicon fixes it (`self`). */
  fixedKey({ nsid }: Collection): string | undefined {
    const { key } = (this.#documents.find(({ id }) => id === nsid)?.defs.main ?? {}) as { key?: string }
    return key?.startsWith('literal:') ? key.slice('literal:'.length) : undefined
  }

  /** Whether the record would be indexed. */
  fits(plugin: Collection, place: Place, record: JsonRecord): boolean {
    if (this.#set.validate(plugin.nsid, record) !== undefined) return false
    return plugin.refuses(this.#entryOf(plugin, place, record)) === undefined
  }

  /** Among many valid records, the one from which the plugin makes most rows and notifications. */
  valid(plugin: Collection, place: Place, seed: string): JsonRecord {
    const source = random(`${plugin.nsid} ${seed}`)
    const maker = new RecordMaker(this.#documents, source)
    const made = Array.from({ length: CANDIDATES }, () => maker.record(plugin.nsid) as JsonRecord)
    for (const about of [place.other, place.did]) {
      const fitting = made
        .map((record) => refer(record, { ...place, about }, source))
        .filter((record) => this.fits(plugin, place, record))
      const best = fitting.sort((a, b) => this.#worth(plugin, place, b) - this.#worth(plugin, place, a))[0]
      if (best) return best
    }
    throw new Error(`no valid record of ${plugin.nsid} among ${CANDIDATES}`)
  }

  #worth(plugin: Collection, place: Place, record: JsonRecord): number {
    const entry = this.#entryOf(plugin, place, record)
    const cells = plugin.rows(entry).flatMap(({ values }) => Object.values(values).filter((value) => value !== null))
    return cells.length + 10 * plugin.notifications(entry).length
  }

  /** The record without everything that may be left out. */
  minimal(plugin: Collection, place: Place, record: JsonRecord): JsonRecord {
    let least = record
    for (const path of pathsOf(record)) {
      const without = changed(least, path, () => undefined)
      if (this.fits(plugin, place, without)) least = without
    }
    return least
  }

  /** The record with U+0000 in each string that may contain it. */
  withNul(plugin: Collection, place: Place, record: JsonRecord): JsonRecord {
    let dotted = record
    for (const path of pathsOf(record).filter((keys) => !String(keys.at(-1)).startsWith('$'))) {
      const next = changed(dotted, path, (value) =>
        typeof value === 'string' && value.length >= TEXT_LEAST ? `${value.slice(0, 1)}\u0000${value.slice(1)}` : value,
      )
      if (this.fits(plugin, place, next)) dotted = next
    }
    return dotted
  }

  /** Copies of the record that its lexicon refuses, each with one fault. */
  invalid(plugin: Collection, record: JsonRecord): { fault: string; record: JsonRecord }[] {
    const faults = Object.keys(record).flatMap((key) => [
      { fault: `without ${key}`, record: changed(record, [key], () => undefined) },
      ...[7, 'odd', [], {}, null, true].map((wrong) => ({
        fault: `${key}: ${JSON.stringify(wrong)}`,
        record: changed(record, [key], () => wrong),
      })),
    ])
    faults.push({ fault: 'a fraction', record: { ...record, odd: 1.5 } })
    return faults.filter((faulty) => this.#set.validate(plugin.nsid, faulty.record) !== undefined)
  }

  /** The record with URIs as long as the format allows, where it has URIs, and of text that does not compress. */
  withLongUris(plugin: Collection, place: Place, record: JsonRecord): JsonRecord | undefined {
    const source = random(plugin.nsid)
    const long = mapStrings(record, (text) =>
      text.startsWith('at://')
        ? `${text}#/${source.text('abcdefghijklmnopqrstuvwxyz0123456789', 7_900 - text.length)}`
        : text,
    )
    return JSON.stringify(long) !== JSON.stringify(record) && this.fits(plugin, place, long) ? long : undefined
  }
}

/** Makes every URI and DID in the record refer to one account. */
function refer(record: JsonRecord, { about, rkey }: Place & { about: string }, source: Random): JsonRecord {
  const collections = [
    'app.bsky.feed.post',
    'app.bsky.graph.list',
    'app.bsky.graph.starterpack',
    'app.bsky.feed.generator',
  ]
  return mapStrings(record, (text) => {
    if (text.startsWith('did:')) return about
    return text.startsWith('at://') ? `at://${about}/${source.pick(collections)}/${rkey}` : text
  })
}

function mapStrings<T>(value: T, map: (text: string) => string): T {
  if (typeof value === 'string') return map(value) as T
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, map)) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapStrings(item, map)])) as T
}

type Path = readonly (string | number)[]

/** Paths to all values inside the value, deepest first. */
function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return []
  const keys = Array.isArray(value) ? [...value.keys()] : Object.keys(value)
  return keys.flatMap((key) => {
    const inner = [...path, key]
    return [...pathsOf((value as Record<string | number, unknown>)[key], inner), inner]
  })
}

/**
 * A copy with another value at `path`. When `change` returns undefined, the copy has no value there. A path that does
 * not exist changes nothing.
 */
function changed<T>(value: T, path: Path, change: (value: unknown) => unknown): T {
  const copy = structuredClone(value)
  const last = path.at(-1)!
  let parent = copy as Record<string | number, unknown> | undefined
  for (const key of path.slice(0, -1)) parent = parent?.[key] as typeof parent
  if (typeof parent !== 'object' || parent === null || !(last in parent)) return copy
  const next = change(parent[last])
  if (next !== undefined) parent[last] = next
  else if (Array.isArray(parent)) parent.splice(Number(last), 1)
  else delete parent[last]
  return copy
}
