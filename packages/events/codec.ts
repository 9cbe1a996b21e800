/**
 * Encodes events as Redis stream entries, and decodes them. This is the only place that knows the field names of an
 * entry.
 *
 * An entry has one field: `event` (firehose and label streams) or `repo` (backfill requests), which holds JSON.
 * Encoding puts `record` last, so that decoding can cut the record's JSON out of the entry instead of serialising it
 * again: `record.json` is the largest column that the indexer writes. Entries of other producers, with keys in any
 * order, decode to the same event.
 */
import type { BackfillEvent } from './backfill-event.ts'
import type { LabelStreamEvent } from './label-event.ts'
import type { CreateEvent, StreamEvent, UpdateEvent } from './stream-event.ts'

/** The fields of an entry: in Redis a flat list of field, value. */
export type EntryFields = Record<string, string>

/** An entry that is not of the kind that its stream holds. `reason` is one of a closed list, fit for a metric label. */
export class InvalidEntryError extends Error {
  override name = 'InvalidEntryError'
  readonly reason: InvalidEntryReason
  constructor(reason: InvalidEntryReason, detail: string) {
    super(`${reason}: ${detail}`)
    this.reason = reason
  }
}

export type InvalidEntryReason = 'missing-field' | 'not-json' | 'not-an-event'
export const INVALID_ENTRY_REASONS: readonly InvalidEntryReason[] = ['missing-field', 'not-json', 'not-an-event']

/** How one stream's events are written to and read from entries. */
export interface EntryEncoder<E> {
  encode(event: E): EntryFields
}

export interface EntryCodec<E> extends EntryEncoder<E> {
  /** @throws InvalidEntryError */
  decode(fields: EntryFields): E
}

export const streamEventCodec: EntryCodec<StreamEvent> = {
  encode: (event) => ({ event: encodeStreamEvent(event) }),
  decode: (fields) => decodeStreamEvent(fields.event),
}

export const labelEventCodec: EntryCodec<LabelStreamEvent> = {
  encode: (event) => ({ event: JSON.stringify(event) }),
  decode(fields) {
    const event = parseObject(fields.event, 'event')
    const label = event.label
    if (event.type !== 'label' || !isObject(label)) throw notAnEvent('a label event needs type "label" and a label')
    for (const key of ['src', 'uri', 'val', 'cts']) {
      if (typeof label[key] !== 'string') throw notAnEvent(`label.${key} is not a string`)
    }
    return event as unknown as LabelStreamEvent
  },
}

export const backfillEventCodec: EntryCodec<BackfillEvent> = {
  encode: (event) => ({ repo: JSON.stringify(event) }),
  decode(fields) {
    const event = parseObject(fields.repo, 'repo')
    const request = { rev: '', attempts: 0, ...event }
    requireStrings(request, ['did', 'host', 'rev'])
    if (!Number.isSafeInteger(request.attempts) || request.attempts < 0) throw notAnEvent('attempts is no count')
    return { rev: '', ...event } as unknown as BackfillEvent
  },
}

/**
 * The property in which a decoded event keeps its record's JSON, cut from the entry. It is not enumerable, so that no
 * other code sees it. With a WeakMap in its place, parsing and keeping an event cost 13.0 instead of 7.2 µs while
 * 24,000 events were held: each collection of young objects walks the map.
 */
const RECORD_TEXT = Symbol('record text')

/** The JSON text of the event's record, byte for byte as the producer wrote it when it wrote the record last. */
export function recordText(event: CreateEvent | UpdateEvent): string {
  return (event as { [RECORD_TEXT]?: string })[RECORD_TEXT] ?? JSON.stringify(event.record)
}

const DID_KEY = '"did":"'

/**
 * The DID of an entry's event, without decoding the entry; undefined where the text does not show it at once. It shows
 * it when nothing is nested before the DID and the DID is written without escapes, as our own producers write. An entry
 * that contains two DID keys decodes to the second.
 */
export function peekDid({ event: text }: EntryFields): string | undefined {
  if (text === undefined || !text.startsWith('{')) return undefined
  // This text cannot occur inside a JSON string, where its quotes would be escaped.
  const at = text.indexOf(DID_KEY)
  if (at === -1) return undefined
  if (text.lastIndexOf('{', at) > 0 || text.lastIndexOf('[', at) > 0) return undefined
  const from = at + DID_KEY.length
  const to = text.indexOf('"', from)
  if (to === -1) return undefined
  const did = text.slice(from, to)
  return did.includes('\\') ? undefined : did
}

function encodeStreamEvent(event: StreamEvent): string {
  if (event.type !== 'create' && event.type !== 'update') return JSON.stringify(event)
  const { record, ...head } = event
  return `${JSON.stringify(head).slice(0, -1)},"record":${JSON.stringify(record)}}`
}

const RECORD_KEY = ',"record":'

function decodeStreamEvent(text: string | undefined): StreamEvent {
  const event = parseObject(text, 'event')
  switch (event.type) {
    case 'create':
    case 'update':
      requireStrings(event, ['did', 'rev', 'time', 'collection', 'rkey', 'cid'])
      if (!isObject(event.record)) throw notAnEvent(`a ${event.type} needs a record`)
      rememberRecordText(event, text!)
      break
    case 'delete':
      requireStrings(event, ['did', 'rev', 'time', 'collection', 'rkey'])
      break
    case 'repo':
      requireStrings(event, ['did', 'rev', 'commit', 'time'])
      if ((event.range === undefined) !== (event.keys === undefined)) throw notAnEvent('range and keys come together')
      break
    case 'account':
      requireStrings(event, ['did', 'time'])
      if (typeof event.active !== 'boolean') throw notAnEvent('account.active is not a boolean')
      break
    case 'identity':
      requireStrings(event, ['did', 'time'])
      break
    default:
      throw notAnEvent(`unknown type ${JSON.stringify(event.type)}`)
  }
  return event as unknown as StreamEvent
}

/**
 * Cuts the record's JSON out of an entry and keeps it with the event.
 *
 * `,"record":` cannot occur inside a JSON string (its quotes would be escaped). With `record` as the last key and no
 * object before it, the first occurrence is therefore the key itself. The exception is an entry that was written to
 * mislead: it has the key twice, or spells it otherwise the first time. Where that is possible (about one entry in
 * twenty), the cut text is parsed to check that it is JSON, because text that is not JSON must never become a
 * `record.json`.
 */
function rememberRecordText(event: Record<string, unknown>, text: string): void {
  let last = ''
  for (const key in event) {
    if (typeof event[last] === 'object') return
    last = key
  }
  if (last !== 'record' || !text.endsWith('}')) return
  const at = text.indexOf(RECORD_KEY)
  if (at === -1 || text.indexOf(RECORD_NAME) !== at + 1) return
  const cut = text.slice(at + RECORD_KEY.length, -1)
  if ((cut.includes(RECORD_NAME) || text.includes('\\u')) && !isJson(cut)) return
  Object.defineProperty(event, RECORD_TEXT, { value: cut })
}

const RECORD_NAME = '"record"'

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function parseObject(text: string | undefined, field: string): Record<string, unknown> {
  if (text === undefined) throw new InvalidEntryError('missing-field', `no field "${field}"`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new InvalidEntryError('not-json', (error as Error).message)
  }
  if (!isObject(value)) throw notAnEvent('the JSON is not an object')
  return value
}

function requireStrings(event: Record<string, unknown>, keys: string[]): void {
  for (const key of keys) {
    if (typeof event[key] !== 'string') throw notAnEvent(`${key} is not a string`)
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function notAnEvent(detail: string): InvalidEntryError {
  return new InvalidEntryError('not-an-event', detail)
}
