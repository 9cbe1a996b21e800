import { jsonToLex, type JsonValue } from '@atproto/lex'
import { expect, test } from 'vitest'
import { findUnreadable } from './readable.ts'

test.each([
  ['{"__proto__":1}', ''],
  ['{"a":{"__proto__":null}}', '.a'],
  ['{"a":[1,{"b":2},{"__proto__":{}}]}', '.a[2]'],
  ['{"a":[[{"b":{"\\u005f_proto__":[]}}]]}', '.a[0][0].b'],
])('%s, on which the official decoder throws, is found', (json, path) => {
  const value = JSON.parse(json) as JsonValue
  expect(() => jsonToLex(value)).toThrow('__proto__')
  expect(findUnreadable(value)).toEqual({ path, message: 'has a key __proto__' })
})

test.each([
  '{}',
  '{"proto":"__proto__"}',
  '["__proto__"]',
  '{"constructor":1,"toString":{"a":[]}}',
  '"__proto__"',
  'null',
])('%s is readable', (json) => {
  const value = JSON.parse(json) as JsonValue
  expect(jsonToLex(value)).toEqual(value)
  expect(findUnreadable(value)).toBeUndefined()
})

test('nesting is bounded at 256 levels', () => {
  const nested = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth))
  expect(findUnreadable(nested(257))).toBeUndefined()
  expect(findUnreadable(nested(258))?.message).toBe('is nested more than 256 levels deep')
  expect(findUnreadable(nested(100_000))?.message).toBe('is nested more than 256 levels deep')
})
