import { describe, expect, test } from 'vitest'
import type { Label } from '@sluice/events/label-event.ts'
import { encodeCbor } from './cbor-encode.ts'
import { decodeFrame } from './frame.ts'
import { labelSignature } from './label.ts'
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

  test('may be absent', () => {
    expect(labelSignature(unsigned, key.did)).toBe('absent')
  })
})
