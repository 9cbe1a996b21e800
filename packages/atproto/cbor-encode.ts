/**
 * Encodes lexicon JSON as canonical DAG-CBOR. Not on a hot path: used for signatures of labels, fidelity checks, and
 * the builders of tests.
 *
 * Takes the output of `decodeRecord` (`{"$link"}`, `{"$bytes"}`), and also `Uint8Array` for bytes. `undefined`
 * properties are left out. A value that the data model does not have (a float, a lone surrogate, a function) throws a
 * TypeError, since the input is our own data.
 */
import { parseBase32 } from './cid.ts'

const LONE_SURROGATE = /\p{Surrogate}/u

/**
 * The canonical encoding of `value`.
 * @throws TypeError
 */
export function encodeCbor(value: unknown): Buffer {
  const parts: Uint8Array[] = []
  write(value, parts)
  return Buffer.concat(parts)
}

function write(value: unknown, parts: Uint8Array[]): void {
  switch (typeof value) {
    case 'string':
      return writeText(value, parts)
    case 'number':
      if (!Number.isSafeInteger(value)) throw new TypeError(`not an integer within 53 bits: ${value}`)
      parts.push(value >= 0 ? head(0, value) : head(1, -1 - value))
      return
    case 'boolean':
      parts.push(Uint8Array.of(value ? 0xf5 : 0xf4))
      return
    case 'object':
      if (value === null) parts.push(Uint8Array.of(0xf6))
      else writeObject(value, parts)
      return
    default:
      throw new TypeError(`no place in the data model: ${typeof value}`)
  }
}

function writeObject(value: object, parts: Uint8Array[]): void {
  if (value instanceof Uint8Array) {
    parts.push(head(2, value.length), value)
    return
  }
  if (Array.isArray(value)) {
    parts.push(head(4, value.length))
    for (const item of value) write(item, parts)
    return
  }
  const entries = Object.entries(value).filter(([, item]) => item !== undefined)
  const [only] = entries
  if (entries.length === 1 && typeof only![1] === 'string') {
    if (only![0] === '$link') return writeLink(only![1], parts)
    if (only![0] === '$bytes') return writeObject(Buffer.from(only![1], 'base64'), parts)
  }
  const sorted = entries
    .map(([key, item]) => ({ key: Buffer.from(key), text: key, item: item as unknown }))
    .sort((a, b) => a.key.length - b.key.length || Buffer.compare(a.key, b.key))
  parts.push(head(5, sorted.length))
  for (const { text, item } of sorted) {
    writeText(text, parts)
    write(item, parts)
  }
}

function writeText(text: string, parts: Uint8Array[]): void {
  if (LONE_SURROGATE.test(text)) throw new TypeError('text with a lone surrogate')
  const bytes = Buffer.from(text)
  parts.push(head(3, bytes.length), bytes)
}

function writeLink(link: string, parts: Uint8Array[]): void {
  const cid = parseBase32(link)
  if (cid === undefined) throw new TypeError(`not a CID: ${link}`)
  parts.push(Uint8Array.of(0xd8, 42), head(2, cid.length + 1), Uint8Array.of(0), cid)
}

function head(major: number, argument: number): Uint8Array {
  const type = major << 5
  if (argument < 24) return Uint8Array.of(type | argument)
  if (argument < 0x100) return Uint8Array.of(type | 24, argument)
  if (argument < 0x10000) return Uint8Array.of(type | 25, argument >> 8, argument & 255)
  const bytes = Buffer.alloc(argument < 2 ** 32 ? 5 : 9)
  bytes[0] = type | (bytes.length === 5 ? 26 : 27)
  if (bytes.length === 5) bytes.writeUInt32BE(argument, 1)
  else bytes.writeBigUInt64BE(BigInt(argument), 1)
  return bytes
}
