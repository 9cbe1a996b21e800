import { describe, expect, test } from 'vitest'
import { isPublicAddress, literalAddress } from './addresses.ts'

describe('an address is public', () => {
  test.each([
    '8.8.8.8',
    '1.1.1.1',
    '172.15.0.1',
    '172.32.0.1',
    '192.167.255.255',
    '100.63.0.1',
    '100.128.0.1',
    '2606:4700:4700::1111',
    '2a00:1450:4001::1',
  ])('%s', (address) => {
    expect(isPublicAddress(address)).toBe(true)
  })

  test.each([
    '0.0.0.0',
    '10.0.0.1',
    '100.64.0.1',
    '127.0.0.1',
    '127.255.255.255',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.1',
    '192.0.2.1',
    '192.168.1.1',
    '198.18.0.1',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:8.8.8.8',
    '64:ff9b::7f00:1',
    'fc00::1',
    'fd12::1',
    'fe80::1',
    'ff02::1',
    '2001::1',
    '2001:db8::1',
    '2002:7f00:1::',
    '3fff::1',
    'localhost',
    '',
    '127.1',
    '0x7f.0.0.1',
  ])('not: %s', (address) => {
    expect(isPublicAddress(address)).toBe(false)
  })
})

test('a hostname that is an address is one however it is written', () => {
  const of = (url: string) => literalAddress(new URL(url).hostname)
  expect(of('https://127.1/')).toBe('127.0.0.1')
  expect(of('https://0x7f000001/')).toBe('127.0.0.1')
  expect(of('https://2130706433/')).toBe('127.0.0.1')
  expect(of('https://[::1]/')).toBe('::1')
  expect(of('https://[::ffff:7f00:1]/')).toBe('::ffff:7f00:1')
  expect(of('https://example.com/')).toBeUndefined()
})
