import { expect, test } from 'vitest'
import { fnv1a } from './fnv.ts'

test.for([
  ['', 0x811c9dc5],
  ['a', 0xe40c292c],
  ['foobar', 0xbf9cf968],
] as const)('the hash of %o is that of the draft, as text and as bytes', ([key, hash]) => {
  expect(fnv1a(key)).toBe(hash)
  expect(fnv1a(Buffer.from(key))).toBe(hash)
})
