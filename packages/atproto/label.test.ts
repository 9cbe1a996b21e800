import { describe, expect, test } from 'vitest'
import type { Label } from '@sluice/events/label-event.ts'
import { encodeCbor } from './cbor-encode.ts'
import { decodeFrame } from './frame.ts'
import { isLabel, labelSignature } from './label.ts'
import { encodeFrame } from './testing/frames.ts'
import { highS, testKey } from './testing/keys.ts'

const key = testKey('labeler')
const unsigned = {
  ver: 1,
  src: 'did:plc:z72i7hdynmk6r22z27h6tvur',
  uri: 'at://did:plc:a/app.bsky.feed.post/3k',
  val: 'spam',
  cts: '2026-11-21T07:00:00.000Z',
}

function signed(label: object, sign = (bytes: Uint8Array) => key.sign(bytes)): Label {
  const frame = decodeFrame(encodeFrame('#labels', { seq: 1, labels: [{ ...label, sig: sign(encodeCbor(label)) }] }))
  if (frame.type !== 'labels') throw new Error(frame.type)
  return frame.labels[0]!
}

describe('what is a label', () => {
  const { src, uri, val } = unsigned
  const room = 2_600 - Buffer.byteLength(`${src}${val}`)
  test.each<[boolean, string, Record<string, unknown>]>([
    [true, 'as it is', {}],
    [true, 'with all that the index can hold', { uri: 'x'.repeat(room) }],
    [true, 'so too in characters of four bytes', { uri: '🦋'.repeat(room / 4) }],
    [true, 'with the longest value', { val: 'é'.repeat(64) }],
    [false, 'beyond what the index can hold', { uri: 'x'.repeat(room + 1) }],
    [false, 'beyond it by several fields', { uri: 'x'.repeat(room - uri.length), cid: 'x'.repeat(uri.length + 1) }],
    [false, 'with a value beyond the lexicon', { val: `${'é'.repeat(64)}x` }],
    [false, 'with U+0000 in its author', { src: 'a\u0000b' }],
    [false, 'with U+0000 in its subject', { uri: 'a\u0000b' }],
    [false, 'with U+0000 in its cid', { cid: 'a\u0000b' }],
    [false, 'with U+0000 in its value', { val: 'a\u0000b' }],
    [false, 'without a subject', { uri: undefined }],
    [false, 'with a cid that is a number', { cid: 1 }],
    [true, 'with all that it may have', { cid: 'x', exp: '2027-01-01T00:00:00.000Z', neg: false, sig: { $bytes: '' } }],
    [true, 'without a version', { ver: undefined }],
    [false, 'with a version that is a text', { ver: '1' }],
    [false, 'with an end that is a number', { exp: 1 }],
    [false, 'negated by a text', { neg: 'true' }],
    [false, 'with a signature that is a text', { sig: '$bytes' }],
    [false, 'with none in its place', { sig: null }],
    [false, 'with a signature that is a link', { sig: { $link: 'x' } }],
  ])('%s: %s', (expected, _, change) => {
    expect(isLabel({ ...unsigned, ...change })).toBe(expected)
  })
})

test.each([null, 'a label', 1, [unsigned]])('no label at all: %j', (value) => {
  expect(isLabel(value)).toBe(false)
})

describe('the signature of a label', () => {
  test.each([
    ['as it is', unsigned],
    ['of a record', { ...unsigned, cid: 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a' }],
    ['that negates and ends', { ...unsigned, neg: true, exp: '2027-01-01T00:00:00.000Z' }],
  ])('is good: %s', (_, label) => {
    expect(labelSignature(signed(label), key.did)).toBe('good')
    expect(labelSignature({ ...signed(label), $type: 'com.atproto.label.defs#label' } as Label, key.did)).toBe('good')
  })

  test('is bad when anything that counts has changed, when another signed, and with a high S', () => {
    const label = signed(unsigned)
    for (const change of [
      { val: 'other' },
      { neg: true },
      { src: 'did:plc:other' },
      { cts: '2026-11-21T07:00:00.001Z' },
      { ver: 2 },
    ]) {
      expect(labelSignature({ ...label, ...change }, key.did)).toBe('bad')
    }
    expect(labelSignature(label, testKey('another').did)).toBe('bad')
    expect(
      labelSignature(
        signed(unsigned, (bytes) => highS(key.sign(bytes), 'k256')),
        key.did,
      ),
    ).toBe('bad')
    expect(labelSignature({ ...label, sig: { $bytes: 'AAAA' } }, key.did)).toBe('bad')
  })

  test('is told absent, and not bad, where there is none', () => {
    expect(labelSignature(unsigned, key.did)).toBe('absent')
  })
})
