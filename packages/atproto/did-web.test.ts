import { expect, test } from 'vitest'
import { webHostOf } from './did-web.ts'

test.each([
  ['did:web:a.test', 'a.test'],
  ['did:web:A.Test', 'a.test'],
  ['did:web:localhost%3A2583', 'localhost:2583'],
  ['did:web:localhost%3a2583', 'localhost:2583'],
  ['did:web:', ''],
  ['did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', undefined],
  ['a did:web:a.test', undefined],
])('the host of %s is %s', (did, host) => {
  expect(webHostOf(did)).toBe(host)
})
