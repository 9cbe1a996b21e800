import { verifySignature as officialVerify } from '@atproto/crypto'
import { describe, expect, test } from 'vitest'
import { parseDidKey, type Curve } from './did-key.ts'
import { LIBRARIES } from './signature-checker.ts'
import { isLowS, verifySignature } from './signature.ts'
import { hasInterop, interopJson } from './testing/interop.ts'
import { highS, testKey } from './testing/keys.ts'
import { random } from './testing/random.ts'
import { verifyByNode } from './testing/verify-by-node.ts'

const CURVES: Curve[] = ['k256', 'p256']
const ORDER: Record<Curve, string> = {
  k256: 'fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141',
  p256: 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551',
}

interface Vector {
  comment: string
  messageBase64: string
  publicKeyDid: string
  signatureBase64: string
  validSignature: boolean
}

describe.skipIf(!hasInterop)('interoperability vectors', () => {
  test.each(hasInterop ? (interopJson('crypto/signature-fixtures.json') as Vector[]) : [])('$comment', (vector) => {
    const bytes = Buffer.from(vector.messageBase64, 'base64')
    const signature = Buffer.from(vector.signatureBase64, 'base64')
    expect(verifySignature(vector.publicKeyDid, bytes, signature)).toBe(vector.validSignature)
    expect(verifyByNode(vector.publicKeyDid, bytes, signature)).toBe(vector.validSignature)
  })

  test.each(['K256', 'P256'])('did:key of %s', (curve) => {
    const vectors = interopJson(`crypto/w3c_didkey_${curve}.json`) as { publicDidKey: string }[]
    for (const { publicDidKey } of vectors) expect(parseDidKey(publicDidKey).curve).toBe(curve.toLowerCase())
    expect(vectors.length).toBeGreaterThan(0)
  })
})

describe.each(CURVES)('%s', (curve) => {
  const key = testKey('signature test', curve)
  const other = testKey('another', curve)

  test('the addon, node:crypto and the official library agree, on good and on bad signatures', async () => {
    const draw = random(`agree ${curve}`)
    for (let i = 0; i < 40; i++) {
      const bytes = draw.bytes(1 + draw.below(300))
      const good = key.sign(bytes)
      const flipped = Buffer.from(good)
      flipped[draw.below(64)]! ^= 1 << draw.below(8)
      const cases: [string, Uint8Array][] = [
        [key.did, good],
        [key.did, flipped],
        [key.did, highS(good, curve)],
        [other.did, good],
        [key.did, draw.bytes(64)],
      ]
      for (const [didKey, signature] of cases) {
        const expected = await officialVerify(didKey, bytes, signature)
        expect(verifySignature(didKey, bytes, signature)).toBe(expected)
        expect(verifyByNode(didKey, bytes, signature)).toBe(expected)
      }
      expect(verifySignature(key.did, bytes, good)).toBe(true)
      expect(verifySignature(key.did, bytes, highS(good, curve))).toBe(false)
    }
  })

  test('the largest S that is low is half the order', () => {
    const half = BigInt(`0x${ORDER[curve]}`) / 2n
    const withS = (s: bigint) => Buffer.from('01'.repeat(32) + s.toString(16).padStart(64, '0'), 'hex')
    expect([-1n, 0n, 1n].map((more) => isLowS(curve, withS(half + more)))).toEqual([true, true, false])
  })

  test.each([
    ['r = 0', '00'.repeat(32) + '01'.padStart(64, '0')],
    ['s = 0', '01'.padStart(64, '0') + '00'.repeat(32)],
    ['r = the order', ORDER[curve] + '01'.padStart(64, '0')],
    ['r above the order', 'ff'.repeat(32) + '01'.padStart(64, '0')],
    ['s above the order', '01'.padStart(64, '0') + 'ff'.repeat(32)],
    ['63 bytes', '01'.repeat(63)],
    ['65 bytes', '01'.repeat(65)],
    ['nothing', ''],
  ])('a signature with %s is false, not an error', (_, hex) => {
    const signature = Buffer.from(hex, 'hex')
    expect(verifySignature(key.did, Buffer.from('x'), signature)).toBe(false)
    expect(verifyByNode(key.did, Buffer.from('x'), signature)).toBe(false)
  })
})

test.each([
  ['nothing', ''],
  ['another method', 'did:plc:abc'],
  ['another curve (ed25519)', 'did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK'],
  ['a foreign character', 'did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJw0'],
  ['a point off the curve', 'did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJw1'],
])('a key that is %s is refused by name', (_, didKey) => {
  expect(() => verifySignature(didKey, Buffer.from('x'), Buffer.alloc(64, 1))).toThrow(
    expect.objectContaining({ reason: 'key-unsupported' }),
  )
})

test('on the platforms that have the addon, it is the one that checks', () => {
  if (process.platform === 'linux' && process.arch === 'x64') expect(LIBRARIES.k256).toBe('libsecp256k1')
})
