/**
 * Whether a value in lexicon JSON can be a record at all. Checked for every record, with or without a lexicon.
 *
 * A record is DAG-CBOR on the wire, so some JSON values are no record: fractions, integers beyond 53 bits, text with
 * half a surrogate pair, a map with a key `$link`, a `$type` that is no text. Our ingester cannot make such events,
 * other producers can. If such a value were stored, it would never encode to the CID that it is stored under, and its
 * columns would have other text than its JSON.
 *
 * The same walk also refuses what the AppView cannot read back (`findUnreadable` in `readable.ts`): a key `__proto__`,
 * and too deep nesting.
 * https://atproto.com/specs/data-model
 *
 * A like takes 0.1 µs, a post with a picture 0.5.
 */
import { byteLength, isLink } from './json-values.ts'
import { MOST_LEVELS } from './readable.ts'
import { inItem, inProperty, violation, type Violation } from './violation.ts'

/** Why the value can be no record, or undefined. Never throws. */
export function findUnstorable(value: unknown, depth = 0): Violation | undefined {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed() ? undefined : violation('is text with half a surrogate pair')
    case 'number':
      return Number.isSafeInteger(value) ? undefined : violation('is not an integer within 53 bits')
    case 'boolean':
      return undefined
    case 'object':
      if (value === null) return undefined
      if (depth > MOST_LEVELS) return violation(`is nested more than ${MOST_LEVELS} levels deep`)
      return Array.isArray(value) ? inArray(value, depth) : inObject(value as Record<string, unknown>, depth)
    default:
      return violation('has no place in the data model')
  }
}

function inArray(items: readonly unknown[], depth: number): Violation | undefined {
  for (let i = 0; i < items.length; i++) {
    const found = findUnstorable(items[i], depth + 1)
    if (found) return inItem(i, found)
  }
  return undefined
}

function inObject(object: Record<string, unknown>, depth: number): Violation | undefined {
  for (const key in object) {
    if (key === '__proto__') return violation('has a key __proto__')
    if (!key.isWellFormed()) return violation('has a key with half a surrogate pair')
    if (key === '$link' && !isLink(object)) return violation('has a key $link, and is no link')
    if (key === '$bytes' && byteLength(object) === undefined) return violation('has a key $bytes, and is no bytes')
    if (key === '$type' && !isTyped(object))
      return violation('has a $type that is no text, or is a blob without its parts')
    const value = object[key]
    const found = value === undefined ? undefined : findUnstorable(value, depth + 1)
    if (found) return inProperty(key, found)
  }
  return undefined
}

function isTyped({ $type, ref, mimeType, size }: Record<string, unknown>): boolean {
  if ($type !== 'blob') return typeof $type === 'string' && $type !== ''
  return isLink(ref) && typeof mimeType === 'string' && typeof size === 'number'
}
