import { expect, test } from 'vitest'
import { ownerOf } from './host-owner.ts'

test.each([
  ['a.evil.example', 'evil.example'],
  ['x.y.z.evil.example:8443', 'evil.example'],
  ['evil.example', 'evil.example'],
  ['a.evil.example.', 'evil.example'],
  ['localhost:2583', 'localhost'],
  // All hosts below a shared suffix have one owner.
  ['alice.co.uk', 'co.uk'],
  ['alice.github.io', 'github.io'],
  ['192.0.2.1:8443', '192.0.2.1'],
  ['192.0.2.2', '192.0.2.2'],
  ['[2001:db8::1]', '2001:db8:0:0'],
  ['[2001:db8::2:3]:8443', '2001:db8:0:0'],
  ['[2001:db8:0:1:2:3:4:5]', '2001:db8:0:1'],
  ['[::1]', '0:0:0:0'],
])('%s is of %s', (host, owner) => {
  expect(ownerOf(new URL(`https://${host}`).host)).toBe(owner)
})
