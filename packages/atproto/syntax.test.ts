import * as official from '@atproto/syntax'
import { isTid, tidFromMicros, tidMicros } from '@sluice/events/tid.ts'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { hasInterop, interopLines } from './testing/interop.ts'
import { isAtprotoDid, isDid, isHandle, isNsid, isRecordKey, normalizeTime, parsePath } from './syntax.ts'

const PREDICATES = [
  { name: 'did', ours: isDid, theirs: official.isValidDid },
  { name: 'handle', ours: isHandle, theirs: official.isValidHandle },
  { name: 'nsid', ours: isNsid, theirs: official.isValidNsid },
  { name: 'recordkey', ours: isRecordKey, theirs: official.isValidRecordKey },
  { name: 'tid', ours: isTid, theirs: official.isValidTid },
]

describe.each(PREDICATES)('$name', ({ name, ours, theirs }) => {
  test.skipIf(!hasInterop)('agrees with the interoperability vectors', () => {
    const valid = interopLines(`syntax/${name}_syntax_valid.txt`)
    const invalid = interopLines(`syntax/${name}_syntax_invalid.txt`)
    expect(valid.length).toBeGreaterThan(2)
    expect(valid.filter((text) => !ours(text))).toEqual([])
    expect(invalid.filter((text) => ours(text))).toEqual([])
  })

  test('agrees with the official library on near misses', () => {
    const good = [
      'did:plc:z72i7hdynmk6r22z27h6tvur',
      'did:web:a.b',
      'jay.bsky.social',
      'app.bsky.feed.post',
      '3jzfcijpj2z2a',
      'self',
      'a~b.c:d_e-f',
    ]
    const nearly = fc.tuple(
      fc.constantFrom(...good),
      fc.nat(40),
      fc.constantFrom('', '.', '..', '-', ':', '/', 'A', '9', 'é', '\n', '%', ' ', 'z'.repeat(64)),
    )
    fc.assert(
      fc.property(nearly, ([text, at, insert]) => {
        const changed = text.slice(0, at) + insert + text.slice(at)
        expect({ changed, is: ours(changed) }).toEqual({ changed, is: theirs(changed) })
      }),
      { numRuns: 3_000 },
    )
  })
})

test('a DID that may have a repository is of a method that atproto uses, in the form of that method', () => {
  const good = ['did:plc:z72i7hdynmk6r22z27h6tvur', 'did:web:a.b', 'did:web:a-b.example', 'did:web:localhost', 'did:web:localhost%3A2583', `did:web:${'a'.repeat(63)}.b`] // prettier-ignore
  expect(good.filter((did) => !isAtprotoDid(did) || !official.isValidDid(did))).toEqual([])
  const bad = ['did:plc:', 'did:plc:abc', 'did:plc:z72i7hdynmk6r22z27h6tvu1', 'did:key:zQ3sh', 'did:web:', 'did:web:a.b:c', 'did:web:-a', 'did:web:a.b%2Fc', 'did:web:a.b%3A443', `did:web:${'a'.repeat(2_048)}`] // prettier-ignore
  // No name that DNS could have, or an address: asking would fail for ever, and say nothing of the account.
  const nameless = ['did:web:com', 'did:web:a..b', 'did:web:a.b.', 'did:web:.b', 'did:web:1.2.3.4', 'did:web:0x7f.1', `did:web:${'a'.repeat(64)}.b`, `did:web:${'a.'.repeat(127)}b`] // prettier-ignore
  expect([...bad, ...nameless].filter(isAtprotoDid)).toEqual([])
})

test('a path is a collection and a record key', () => {
  expect(parsePath('app.bsky.feed.post/3k')).toEqual({ collection: 'app.bsky.feed.post', rkey: '3k' })
  for (const bad of [
    '',
    'app.bsky.feed.post',
    'app.bsky.feed.post/',
    '/3k',
    'app.bsky.feed.post/3k/x',
    'bad/3k',
    'app.bsky.feed.post/..',
    'app.bsky.feed.post/a b',
  ]) {
    expect(parsePath(bad)).toBeUndefined()
  }
})

test('a TID carries its time, and sorts by it', () => {
  const micros = Date.UTC(2026, 10, 21) * 1000 + 123
  expect(tidMicros(tidFromMicros(micros, 1023))).toBe(micros)
  expect(tidFromMicros(micros) < tidFromMicros(micros + 1)).toBe(true)
  expect(tidMicros('3jzfcijpj2z2a')).toBe(1688137381887007) // the value that the specification's library gives
  expect(tidMicros('nonsense')).toBeNaN()
  expect(() => tidFromMicros(-1)).toThrow(RangeError)
})

test('a time becomes UTC with milliseconds', () => {
  expect(normalizeTime('2026-11-21T07:00:00.123Z')).toBe('2026-11-21T07:00:00.123Z')
  expect(normalizeTime('2026-11-21T07:00:00Z')).toBe('2026-11-21T07:00:00.000Z')
  expect(normalizeTime('2026-11-21T09:00:00.123456+02:00')).toBe('2026-11-21T07:00:00.123Z')
  expect(normalizeTime('yesterday')).toBeUndefined()
})
