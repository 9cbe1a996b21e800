/**
 * Strict decoder of DAG-CBOR. Synchronous, and decodes directly to the form that each caller needs.
 *
 * - `decodeRecord`: decodes a record block to lexicon JSON (`{"$link"}`, `{"$bytes"}`), which events carry. Strict as
 *   the atproto data model is: shortest lengths, sorted unique text keys, no floats, integers within 53 bits, tag 42
 *   only, valid UTF-8, nothing after the value; `$type` is text, and a blob has its parts. Re-encoding the result
 *   (`cbor-encode.ts`) gives the same bytes, and so the same CID.
 * - `decodeItem`: decodes one item of an envelope to values with links and byte views. Equally strict, except that keys
 *   may be in any order: an envelope is not content-addressed, and a relay in another language may write its keys in
 *   another order.
 *
 * A refusal is a `RefusedError` with a `CborRefusal` (`cbor-refusals.ts`).
 *
 * Measured on likes, posts and follows (`cbor.bench.ts`; µs a record to lexicon JSON): this decoder 0.70,
 * `@atcute/cbor` 0.87 (which has neither our refusals nor views), `@atproto/lex-cbor` and `lex-json` 2.5. What makes it
 * fast: keys come from a table of strings seen before, ASCII text is decoded as latin-1, links become text without an
 * object in between.
 */
import { isUtf8 } from 'node:buffer'
import { asBuffer } from './bytes.ts'
import { refuseCbor } from './cbor-refusals.ts'
import { base32, CID_BYTES, formatCidAt, isCidAt, isOtherCid, readCid, type Cid } from './cid.ts'

export type Json = null | boolean | number | string | Json[] | JsonObject
export interface JsonObject {
  [key: string]: Json
}

/** A link in an envelope. A class, since a `Cid` is a string in JavaScript and could not be told from text. */
export class Link {
  readonly cid: Cid
  constructor(cid: Cid) {
    this.cid = cid
  }
}

export type Item = null | boolean | number | string | Buffer | Link | Item[] | ItemMap
export interface ItemMap {
  [key: string]: Item
}

/** The deepest nesting that is accepted. */
const DEPTH = 128
/** The most values that are accepted. One byte of input can be an empty map, which takes 50 bytes in memory. */
const VALUES = 250_000

/**
 * Decodes a record block to lexicon JSON.
 * @throws RefusedError<CborRefusal>
 */
export function decodeRecord(block: Uint8Array): JsonObject {
  const reader = new Reader(asBuffer(block), 0, 'json')
  const value = reader.value(0)
  if (reader.position !== block.length)
    throw refuseCbor('cbor-trailing-bytes', `${block.length - reader.position} bytes`)
  if (typeof value !== 'object' || value === null || Array.isArray(value) || (block[0]! & 0xe0) !== 0xa0) {
    throw refuseCbor('cbor-not-a-map', 'a record is a map')
  }
  return value as JsonObject
}

/**
 * Decodes the item that starts at `at`; also gives the position after it. Byte strings are views of `bytes`.
 * @throws RefusedError<CborRefusal>
 */
export function decodeItem(bytes: Buffer, at: number): { value: Item; end: number } {
  const reader = new Reader(bytes, at, 'item')
  const value = reader.value(0) as Item
  return { value, end: reader.position }
}

/**
 * As `decodeItem`, but to lexicon JSON.
 * @throws RefusedError<CborRefusal>
 */
export function decodeJsonItem(bytes: Buffer, at: number): { value: Json; end: number } {
  const reader = new Reader(bytes, at, 'json')
  const value = reader.value(0) as Json
  return { value, end: reader.position }
}

/**
 * A table of map keys seen before, as interned strings. Records have few distinct keys, and V8 finds an interned key in
 * an object by identity.
 */
const KEY_SLOTS = 1024
const KEY_BYTES = 32
const keys: string[] = Array.from({ length: KEY_SLOTS }, () => '')

class Reader {
  position: number
  readonly #bytes: Buffer
  readonly #json: boolean
  #values = 0

  constructor(bytes: Buffer, at: number, mode: 'json' | 'item') {
    this.#bytes = bytes
    this.position = at
    this.#json = mode === 'json'
  }

  value(depth: number): unknown {
    const byte = this.#bytes[this.position++]
    if (byte === undefined) throw refuseCbor('cbor-truncated', 'the input ends where a value should start')
    const info = byte & 31
    if (byte >= 0xe0) return simple(byte)
    const argument = info < 24 ? info : this.#argument(info)
    switch (byte >> 5) {
      case 0:
        return argument
      case 1:
        if (argument === Number.MAX_SAFE_INTEGER) throw refuseCbor('cbor-integer-range', `-1 - ${argument}`)
        return -1 - argument
      case 2: {
        const start = this.#take(argument)
        return this.#json ? { $bytes: base64(this.#bytes, start, start + argument) } : this.#view(start, argument)
      }
      case 3:
        return this.#text(this.#take(argument), argument)
      case 4:
        return this.#array(argument, depth)
      case 5:
        return this.#map(argument, depth)
      default:
        return this.#link(argument)
    }
  }

  #array(length: number, depth: number): unknown[] {
    this.#enter(length, depth)
    const array: unknown[] = []
    for (let i = 0; i < length; i++) array.push(this.value(depth + 1))
    return array
  }

  #map(length: number, depth: number): Record<string, unknown> {
    this.#enter(length, depth)
    const map: Record<string, unknown> = {}
    let previousStart = 0
    let previousLength = -1
    for (let i = 0; i < length; i++) {
      const byte = this.#bytes[this.position++] ?? 0
      if (byte >> 5 !== 3) throw refuseCbor('cbor-unsupported', 'a map key that is not text')
      const keyLength = (byte & 31) < 24 ? byte & 31 : this.#argument(byte & 31)
      const start = this.#take(keyLength)
      const key = this.#key(start, keyLength)
      if (this.#json) {
        this.#ordered(previousStart, previousLength, start, keyLength)
        if (key === '$link' || key === '$bytes') throw refuseCbor('cbor-reserved-key', key)
      } else if (Object.hasOwn(map, key)) {
        throw refuseCbor('cbor-not-canonical', `the key ${JSON.stringify(key.slice(0, 100))} twice`)
      }
      previousStart = start
      previousLength = keyLength
      const value = this.value(depth + 1)
      if (key === '__proto__') define(map, key, value)
      else map[key] = value
    }
    if (this.#json && map.$type !== undefined) checkType(map)
    return map
  }

  /** Checks that keys are sorted by length, then by bytes. This also excludes a repeated key. */
  #ordered(aStart: number, aLength: number, bStart: number, bLength: number): void {
    if (bLength > aLength) return
    if (bLength === aLength) {
      const bytes = this.#bytes
      for (let i = 0; i < aLength; i++) {
        const difference = bytes[bStart + i]! - bytes[aStart + i]!
        if (difference > 0) return
        if (difference < 0) break
      }
    }
    throw refuseCbor('cbor-not-canonical', 'map keys out of order')
  }

  #key(start: number, length: number): string {
    if (length === 0 || length > KEY_BYTES) return this.#text(start, length)
    const bytes = this.#bytes
    const slot =
      (bytes[start]! * 31 + bytes[start + (length >> 1)]! * 17 + bytes[start + length - 1]! + length * 67) % KEY_SLOTS
    const known = keys[slot]!
    if (known.length === length) {
      let i = 0
      while (i < length && known.charCodeAt(i) === bytes[start + i]) i++
      if (i === length) return known
    }
    // The loop above compares characters of the table's text with bytes, so only ASCII keys may enter the table.
    const key = this.#text(start, length)
    if (key.length === length) keys[slot] = key
    return key
  }

  #text(start: number, length: number): string {
    const bytes = this.#bytes
    const end = start + length
    let i = start
    while (i < end && bytes[i]! < 0x80) i++
    if (i === end) return bytes.toString('latin1', start, end)
    const text = bytes.toString('utf8', start, end)
    // `toString` replaces invalid UTF-8 with U+FFFD. Only text with that character needs the exact check.
    if (text.includes('\ufffd') && !isUtf8(bytes.subarray(start, end)))
      throw refuseCbor('cbor-bad-utf8', 'text is not UTF-8')
    return text
  }

  #link(tag: number): unknown {
    if (tag !== 42) throw refuseCbor('cbor-unsupported', `tag ${tag}`)
    const bytes = this.#bytes
    const byte = bytes[this.position++] ?? 0
    if (byte >> 5 !== 2) throw refuseCbor('cbor-bad-link', 'a link is a byte string')
    const length = (byte & 31) < 24 ? byte & 31 : this.#argument(byte & 31)
    const start = this.#take(length)
    if (length === 0 || bytes[start] !== 0) throw refuseCbor('cbor-bad-link', 'a link starts with a zero byte')
    if (!this.#json) {
      const cid = length === CID_BYTES + 1 ? readCid(bytes, start + 1) : undefined
      if (cid === undefined) throw refuseCbor('cbor-bad-link', 'a repository links by CIDv1 with SHA-256 only')
      return new Link(cid)
    }
    if (length === CID_BYTES + 1 && isCidAt(bytes, start + 1)) return { $link: formatCidAt(bytes, start + 1) }
    const other = bytes.subarray(start + 1, start + length)
    if (!isOtherCid(other)) throw refuseCbor('cbor-bad-link', 'not a CID of version 1')
    return { $link: base32(other) }
  }

  #argument(info: number): number {
    const bytes = this.#bytes
    const at = this.position
    const size = 1 << (info - 24)
    if (info > 27) throw refuseCbor('cbor-not-canonical', 'an indefinite length')
    if (at + size > bytes.length) throw refuseCbor('cbor-truncated', 'the input ends inside a length')
    this.position = at + size
    if (info === 24) return longerThan(bytes[at]!, 23)
    if (info === 25) return longerThan(bytes.readUInt16BE(at), 0xff)
    if (info === 26) return longerThan(bytes.readUInt32BE(at), 0xffff)
    const value = bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4)
    if (value > Number.MAX_SAFE_INTEGER) throw refuseCbor('cbor-integer-range', 'more than 53 bits')
    return longerThan(value, 0xffffffff)
  }

  #take(length: number): number {
    const start = this.position
    if (start + length > this.#bytes.length) throw refuseCbor('cbor-truncated', 'the input ends inside a string')
    this.position = start + length
    return start
  }

  #enter(length: number, depth: number): void {
    if (depth >= DEPTH) throw refuseCbor('cbor-too-deep', `more than ${DEPTH} levels`)
    if (length > this.#bytes.length - this.position) throw refuseCbor('cbor-truncated', 'more items than bytes')
    this.#values += length
    if (this.#values > VALUES) throw refuseCbor('cbor-too-many-values', `more than ${VALUES}`)
  }

  #view(start: number, length: number): Buffer {
    return this.#bytes.subarray(start, start + length)
  }
}

/**
 * Accepts a blob with the size -1, and one with additional keys: some of the first clients wrote these, and the AppView
 * reads both. https://atproto.com/specs/data-model#type-field, https://atproto.com/specs/data-model#blob-type
 */
function checkType({ $type, ref, mimeType, size }: Record<string, unknown>): void {
  if (typeof $type !== 'string' || $type === '') throw refuseCbor('cbor-bad-type', '$type is no text, or empty')
  if ($type !== 'blob') return
  const isLink = typeof ref === 'object' && ref !== null && '$link' in ref
  if (!isLink || typeof mimeType !== 'string' || typeof size !== 'number')
    throw refuseCbor('cbor-bad-blob', 'a blob has a link, a type and a size')
}

function simple(byte: number): boolean | null {
  if (byte === 0xf4) return false
  if (byte === 0xf5) return true
  if (byte === 0xf6) return null
  if (byte >= 0xf9 && byte <= 0xfb) throw refuseCbor('cbor-float', 'a floating-point number')
  throw refuseCbor('cbor-unsupported', `simple value 0x${byte.toString(16)}`)
}

function longerThan(value: number, shorter: number): number {
  if (value <= shorter) throw refuseCbor('cbor-not-canonical', 'a length in more bytes than it needs')
  return value
}

/** Base64 without padding, as lexicon JSON has it. */
function base64(bytes: Buffer, start: number, end: number): string {
  const text = bytes.toString('base64', start, end)
  const spare = (end - start) % 3
  return spare === 0 ? text : text.slice(0, spare - 3)
}

/** Sets `__proto__` as an ordinary key: plain assignment would change the object's prototype. */
function define(map: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true })
}
