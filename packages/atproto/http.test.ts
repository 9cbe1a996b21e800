import { describe, expect, test } from 'vitest'
import { wayTo } from './http.ts'

const exempt = { all: false, origins: new Set(['http://127.0.0.1:2582', 'https://relay.internal']) }
const way = (...hops: string[]) =>
  wayTo(
    hops.map((hop) => new URL(hop)),
    exempt,
  )
const refusing = (reason: string) => expect.objectContaining({ name: 'RefusedError', reason })

describe('where a request may go', () => {
  test('to a named origin and from one to another openly, elsewhere guarded', () => {
    expect(way('http://127.0.0.1:2582/did:plc:a')).toBe('open')
    expect(way('https://relay.internal/xrpc/a', 'https://relay.internal/xrpc/b')).toBe('open')
    expect(way('https://relay.internal/', 'http://127.0.0.1:2582/')).toBe('open')
    expect(way('https://example.com/')).toBe('guarded')
    expect(way('https://relay.internal/', 'https://example.com/')).toBe('guarded')
  })

  test.each([
    'http://127.0.0.1:2583/',
    'http://127.0.0.1/',
    'https://127.0.0.1:2582/',
    'http://relay.internal/',
    'https://[::1]:2582/',
  ])('not to %s, which is another origin than the named ones', (url) => {
    expect(() => way(url)).toThrow(/^http-(bad-url|private-address)/)
  })

  test('a name whose port was not named is looked up with care', () => {
    expect(way('https://relay.internal:8443/')).toBe('guarded')
  })

  test("a stranger's redirect does not lead to what was named, whoever sent us to the stranger", () => {
    const [stranger, named] = ['https://example.com/', 'http://127.0.0.1:2582/']
    expect(() => way(stranger, named)).toThrow(refusing('http-bad-url'))
    expect(() => way(named, stranger, named)).toThrow(refusing('http-bad-url'))
    // The redirect may lead to the name's public addresses, as to those of any other name.
    expect(way(stranger, 'https://relay.internal/')).toBe('guarded')
  })

  test('where all is allowed, redirects of strangers are', () => {
    const hops = ['https://example.com/', 'http://10.0.0.1/'].map((hop) => new URL(hop))
    expect(wayTo(hops, { all: true, origins: new Set() })).toBe('open')
    expect(() => wayTo([new URL('ftp://example.com/')], { all: true, origins: new Set() })).toThrow(refusing('http-bad-url')) // prettier-ignore
  })
})
