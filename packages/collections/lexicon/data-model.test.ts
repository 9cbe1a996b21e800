import { jsonToLex, type JsonValue } from '@atproto/lex'
import { expect, test } from 'vitest'
import { findUnstorable } from './data-model.ts'

const LINK = 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy'
const BLOB = { $type: 'blob', ref: { $link: LINK }, mimeType: 'image/png', size: 1 }
const TYPE = 'has a $type that is no text, or is a blob without its parts'
const half = '\ud83d'

test.each<[string, unknown, string, string]>([
  ['a fraction', { a: [1, { b: 0.5 }] }, '.a[1].b', 'is not an integer within 53 bits'],
  ['an integer beyond 53 bits', { a: 2 ** 53 }, '.a', 'is not an integer within 53 bits'],
  ['a number that JSON reads as infinite', JSON.parse('{"a":1e400}'), '.a', 'is not an integer within 53 bits'],
  ['text with half a surrogate pair', { a: { b: `x${half}y` } }, '.a.b', 'is text with half a surrogate pair'],
  ['the halves in the wrong order', { a: '\udc4d\ud83d' }, '.a', 'is text with half a surrogate pair'],
  ['half a pair in a key', { a: { [half]: 1 } }, '.a', 'has a key with half a surrogate pair'],
  ['a key __proto__', JSON.parse('{"a":{"__proto__":1}}'), '.a', 'has a key __proto__'],
  ['a link that is none', { a: { $link: 'nowhere' } }, '.a', 'has a key $link, and is no link'],
  ['a link with company', { a: { $link: LINK, b: 1 } }, '.a', 'has a key $link, and is no link'],
  ['bytes that are none', { a: [{ $bytes: 7 }] }, '.a[0]', 'has a key $bytes, and is no bytes'],
  ['a type that is null', { a: { $type: null } }, '.a', TYPE],
  ['a type that is empty', { $type: '' }, '', TYPE],
  ['a blob without what it refers to', { a: { $type: 'blob', mimeType: 'image/png', size: 1 } }, '.a', TYPE],
  ['a blob of so many characters', { a: { ...BLOB, size: '1' } }, '.a', TYPE],
  ['undefined', { a: [undefined] }, '.a[0]', 'has no place in the data model'],
])('%s is found, and where', (_, value, path, message) => {
  expect(findUnstorable(value)).toEqual({ path, message })
})

test.each<[string, unknown]>([
  ['the greatest integers', { a: Number.MAX_SAFE_INTEGER, b: Number.MIN_SAFE_INTEGER }],
  ['text of every plane', { a: '👍 \u0000 \ufffe', '👍': 'é' }],
  ['a blob', { a: BLOB }],
  ['links and bytes', { a: { $link: LINK }, b: { $bytes: 'AAEC' } }],
  ['nothing', { a: null, b: [], c: {}, d: '', e: false }],
])('%s can be stored, and read by the official decoder', (_, value) => {
  expect(findUnstorable(value)).toBeUndefined()
  expect(() => jsonToLex(value as JsonValue, { strict: true })).not.toThrow()
})

test('a blob of one of the first clients is read as the AppView reads it', () => {
  const blob = { ...BLOB, size: -1 }
  expect(findUnstorable(blob)).toBeUndefined()
  expect(jsonToLex(blob, { strict: false })).toMatchObject({ size: -1 })
})

test('nesting is bounded, however deep', () => {
  const nested = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth))
  expect(findUnstorable(nested(257))).toBeUndefined()
  expect(findUnstorable(nested(258))?.message).toBe('is nested more than 256 levels deep')
  expect(findUnstorable(nested(100_000))?.message).toBe('is nested more than 256 levels deep')
})
