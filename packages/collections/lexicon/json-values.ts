/**
 * What a value of lexicon JSON stands for in the data model: `{"$link": …}` a CID, `{"$bytes": …}` bytes, any other
 * object a map.
 * https://atproto.com/specs/data-model
 *
 * As in the official decoder, an object is a link (or bytes) only if `$link` (or `$bytes`) is its only key and the text
 * under it is well formed. Any other object with such a key is a map, and the key is one more key that the lexicon does
 * not name.
 */
import { fromBase64, parseCidSafe } from '@atproto/lex-data'
import { isRawSha256Cid, isSha256Cid } from './formats.ts'

export type JsonObject = { readonly [key: string]: unknown }

/** A JSON object: a link, bytes or a map. Not an array. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** An object that is neither a link nor bytes. */
export function isMap(value: unknown): value is JsonObject {
  if (!isObject(value)) return false
  if (value.$link === undefined && value.$bytes === undefined) return true
  return !isLink(value) && byteLength(value) === undefined
}

/** A link: a CID of any kind. */
export function isLink(value: unknown): boolean {
  const text = soleText(value, '$link')
  return text !== undefined && (isSha256Cid(text) || parseCidSafe(text) !== null)
}

/** A link to raw data, as a blob has it. */
export function isRawLink(value: unknown): boolean {
  const text = soleText(value, '$link')
  return text !== undefined && (isRawSha256Cid(text) || parseCidSafe(text, { flavor: 'raw' }) !== null)
}

/** How many bytes the value stands for; undefined when it is not bytes. */
export function byteLength(value: unknown): number | undefined {
  const text = soleText(value, '$bytes')
  if (text === undefined) return undefined
  try {
    return fromBase64(text).length
  } catch {
    return undefined
  }
}

/** The text under `key` if the value is an object with this one key. */
function soleText(value: unknown, key: '$link' | '$bytes'): string | undefined {
  if (!isObject(value)) return undefined
  const text = value[key]
  if (typeof text !== 'string') return undefined
  for (const other in value) if (other !== key) return undefined
  return text
}
