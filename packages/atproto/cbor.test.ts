import { cidForLex, encode as officialEncode } from '@atproto/lex-cbor'
import { jsonToLex } from '@atproto/lex-json'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { asBuffer } from './bytes.ts'
import { encodeCbor } from './cbor-encode.ts'
import { decodeItem, decodeRecord, Link } from './cbor.ts'
import { cidOf, formatCid, parseCid } from './cid.ts'
import { hasInterop, interopJson } from './testing/interop.ts'

const CID = 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a'
const RAW_CID = 'bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity'

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex')
}

/** `{a: <value>}`, since a record is a map. */
function record(value: string): Buffer {
  return hex(`a16161${value}`)
}

describe('a record becomes lexicon JSON, and JSON the same record again', () => {
  test.each([
    [
      'numbers',
      {
        a: 0,
        b: 23,
        c: 24,
        d: 255,
        e: 256,
        f: 65535,
        g: 65536,
        h: 2 ** 32 - 1,
        i: 2 ** 32,
        j: Number.MAX_SAFE_INTEGER,
      },
    ],
    ['negative numbers', { a: -1, b: -24, c: -25, d: -256, e: -257, f: -(2 ** 32), g: Number.MIN_SAFE_INTEGER }],
    ['text', { a: '', b: 'é', c: '日本', d: '👩‍👩‍👧', e: '\u0000', f: '\\u0000', g: '\ufffd', h: 'x'.repeat(70_000) }],
    ['small integers in arrays', { a: [1, 2, 3], b: [[255], []], c: { d: {} } }],
    [
      'bytes',
      { a: { $bytes: '' }, b: { $bytes: 'AA' }, c: { $bytes: 'AAA' }, d: { $bytes: 'AAAA' }, e: { $bytes: '/+8' } },
    ],
    ['links', { a: { $link: CID }, b: { ref: { $link: RAW_CID }, size: 1, $type: 'blob', mimeType: 'image/png' } }],
    [
      'links to other hashes',
      {
        a: {
          $link:
            'bafkrgqbmjhhv4ehvfxobh5xzwvwrpcrbpdegkh4ovnynqtdd5rnw5vnvv6gqoyxwrzmlpl2gz7oocehxvlmcdhpf7jb2wjgqqx4eslk6lfgrs',
        },
      },
    ],
    ['simple values', { a: null, b: true, c: false }],
    ['keys in another order', { zz: 1, a: 2, b: 3, aa: 4, é: 5, '1': 6 }],
    ['a key that a plain assignment would lose', JSON.parse('{"__proto__": {"x": 1}, "constructor": 2}')],
  ])('%s', (_, value) => {
    const bytes = encodeCbor(value)
    const decoded = decodeRecord(bytes)
    expect(JSON.parse(JSON.stringify(decoded))).toEqual(JSON.parse(JSON.stringify(value)))
    expect(encodeCbor(decoded)).toEqual(bytes)
  })

  test('random values, as the official library encodes them', async () => {
    const json = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.constant(null),
        fc.boolean(),
        fc.maxSafeInteger(),
        fc.string({ unit: 'grapheme', maxLength: 40 }),
        fc.constantFrom({ $link: CID }, { $link: RAW_CID }),
        fc
          .uint8Array({ maxLength: 40 })
          .map((bytes) => ({ $bytes: Buffer.from(bytes).toString('base64').replace(/=+$/, '') })),
        fc.array(tie('value'), { maxLength: 5 }),
        tie('map'),
      ),
      map: fc.dictionary(
        fc.string({ unit: 'grapheme', maxLength: 40 }).filter((key) => !key.startsWith('$') && key !== '__proto__'),
        tie('value'),
        { maxKeys: 6 },
      ),
    }))
    await fc.assert(
      fc.asyncProperty(json.map, async (value) => {
        const bytes = Buffer.from(officialEncode(jsonToLex(value as never)))
        expect(encodeCbor(value)).toEqual(bytes)
        expect(decodeRecord(bytes)).toEqual(value)
        expect(formatCid(cidOf(bytes))).toBe(String(await cidForLex(jsonToLex(value as never))))
      }),
      { numRuns: 500 },
    )
  })
})

describe.skipIf(!hasInterop)('interoperability vectors', () => {
  interface Fixture {
    json: Record<string, unknown>
    cbor_base64: string
    cid: string
  }
  test.each(hasInterop ? (interopJson('data-model/data-model-fixtures.json') as Fixture[]) : [])(
    '$cid',
    ({ json, cbor_base64, cid }) => {
      const bytes = Buffer.from(cbor_base64, 'base64')
      expect(decodeRecord(bytes)).toEqual(json)
      expect(encodeCbor(json)).toEqual(bytes)
      expect(formatCid(cidOf(bytes))).toBe(cid)
    },
  )

  test('all that is invalid is refused', () => {
    const vectors = interopJson('data-model/data-model-invalid.json') as { note: string; json: unknown }[]
    const accepted = vectors.filter(({ json }) => {
      try {
        return decodeRecord(encodeCbor(json)) !== undefined
      } catch {
        return false
      }
    })
    expect(vectors.length).toBeGreaterThan(10)
    expect(accepted).toEqual([])
  })

  test.each(hasInterop ? (interopJson('data-model/data-model-valid.json') as { note: string; json: unknown }[]) : [])(
    'valid: $note',
    ({ json }) => {
      expect(decodeRecord(encodeCbor(json))).toEqual(json)
    },
  )
})

describe('what is not strict DAG-CBOR is refused', () => {
  test.each([
    ['cbor-truncated', 'nothing', ''],
    ['cbor-truncated', 'a map without its value', 'a1 61 61'],
    ['cbor-truncated', 'text cut short', 'a1 61 61 63 61 62'],
    ['cbor-truncated', 'a length cut short', 'a1 61 61 19 01'],
    ['cbor-truncated', 'an array of more items than bytes', 'a1 61 61 9a ff ff ff ff 01'],
    ['cbor-trailing-bytes', 'a byte after the value', 'a0 00'],
    ['cbor-not-canonical', 'an integer in more bytes than needed', 'a1 61 61 18 17'],
    ['cbor-not-canonical', 'a 2-byte length that 1 byte holds', 'a1 61 61 19 00 ff'],
    ['cbor-not-canonical', 'a 4-byte length that 2 bytes hold', 'a1 61 61 1a 00 00 ff ff'],
    ['cbor-not-canonical', 'an 8-byte length that 4 bytes hold', 'a1 61 61 1b 00 00 00 00 ff ff ff ff'],
    ['cbor-not-canonical', 'a text length in more bytes than needed', 'a1 61 61 78 01 62'],
    ['cbor-not-canonical', 'keys out of order', 'a2 61 62 01 61 61 02'],
    ['cbor-not-canonical', 'a longer key first', 'a2 62 61 61 01 61 62 02'],
    ['cbor-not-canonical', 'a key twice', 'a2 61 61 01 61 61 02'],
    ['cbor-not-canonical', 'an indefinite array', 'a1 61 61 9f 01 ff'],
    ['cbor-not-canonical', 'an indefinite map', 'bf 61 61 01 ff'],
    ['cbor-float', 'a half float', 'a1 61 61 f9 3c 00'],
    ['cbor-float', 'a single float', 'a1 61 61 fa 3f 80 00 00'],
    ['cbor-float', 'a double, even a whole one', 'a1 61 61 fb 3f f0 00 00 00 00 00 00'],
    ['cbor-integer-range', '2^53', 'a1 61 61 1b 00 20 00 00 00 00 00 00'],
    ['cbor-integer-range', '-2^53', 'a1 61 61 3b 00 1f ff ff ff ff ff ff'],
    ['cbor-unsupported', 'undefined', 'a1 61 61 f7'],
    ['cbor-unsupported', 'a simple value', 'a1 61 61 f8 20'],
    ['cbor-unsupported', 'another tag', 'a1 61 61 c1 01'],
    ['cbor-unsupported', 'a key that is a number', 'a1 01 02'],
    ['cbor-unsupported', 'a key that is bytes', 'a1 41 61 02'],
    ['cbor-bad-utf8', 'a lone continuation byte', 'a1 61 61 61 80'],
    ['cbor-bad-utf8', 'a surrogate', 'a1 61 61 63 ed a0 80'],
    ['cbor-bad-utf8', 'an overlong slash', 'a1 61 61 62 c0 af'],
    ['cbor-bad-utf8', 'a key that is not UTF-8', 'a1 61 ff 01'],
    ['cbor-bad-link', 'a link without bytes', 'a1 61 61 d8 2a 01'],
    ['cbor-bad-link', 'an empty link', 'a1 61 61 d8 2a 40'],
    ['cbor-bad-link', 'a link without the zero byte', 'a1 61 61 d8 2a 43 01 71 12'],
    ['cbor-bad-link', 'a link that is cut short', 'a1 61 61 d8 2a 45 00 01 71 12 20'],
    ['cbor-not-a-map', 'a number', '01'],
    ['cbor-not-a-map', 'an array', '80'],
    ['cbor-not-a-map', 'bytes', '41 61'],
    ['cbor-not-a-map', 'null', 'f6'],
  ])('%s: %s', (reason, _, bytes) => {
    expect(() => decodeRecord(hex(bytes))).toThrow(expect.objectContaining({ reason }))
  })

  test.each(['$link', '$bytes'])(
    'cbor-reserved-key: a map with the key %s could not be told from the real thing',
    (key) => {
      const map = Buffer.concat([hex('a1 61 61 a1'), Uint8Array.of(0x60 + key.length), Buffer.from(key), hex('61 62')])
      expect(() => decodeRecord(map)).toThrow(expect.objectContaining({ reason: 'cbor-reserved-key' }))
    },
  )

  const ref = { $link: 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy' }
  test.each([
    ['cbor-bad-type', { $type: null }],
    ['cbor-bad-type', { a: [{ $type: 7 }] }],
    ['cbor-bad-type', { $type: '' }],
    ['cbor-bad-blob', { a: { $type: 'blob', mimeType: 'image/png', size: 1 } }],
    ['cbor-bad-blob', { a: { $type: 'blob', ref: 'text', mimeType: 'image/png', size: 1 } }],
    ['cbor-bad-blob', { a: { $type: 'blob', ref, size: 1 } }],
    ['cbor-bad-blob', { a: { $type: 'blob', ref, mimeType: 'image/png', size: '1' } }],
  ])('%s: %j', (reason, value) => {
    expect(() => decodeRecord(encodeCbor(value as Record<string, unknown>))).toThrow(
      expect.objectContaining({ reason }),
    )
  })

  test('a blob of one of the first clients, without a size, is taken', () => {
    const blob = { a: { $type: 'blob', ref, mimeType: 'image/png', size: -1, alt: '' } }
    expect(decodeRecord(encodeCbor(blob))).toEqual(blob)
  })

  test('a key that was seen does not make bytes good that only look like it', () => {
    const key = '\u00a8\u0081\u0080!' // in the table of keys, its latin-1 bytes would have its place
    expect(decodeRecord(encodeCbor({ [key]: 1 }))).toEqual({ [key]: 1 })
    expect(() => decodeRecord(hex('a1 64 a8 81 80 21 01'))).toThrow(
      expect.objectContaining({ reason: 'cbor-bad-utf8' }),
    )
  })

  test('cbor-too-deep: a nest of arrays', () => {
    expect(decodeRecord(record(`${'81'.repeat(126)}80`))).toBeDefined()
    expect(() => decodeRecord(record(`${'81'.repeat(100_000)}80`))).toThrow(
      expect.objectContaining({ reason: 'cbor-too-deep' }),
    )
  })

  test('cbor-too-many-values: a megabyte of empty maps', () => {
    const maps = (count: number) => record(`9a${count.toString(16).padStart(8, '0')}${'a0'.repeat(count)}`)
    expect(decodeRecord(maps(249_999)).a).toHaveLength(249_999)
    expect(() => decodeRecord(maps(250_000))).toThrow(expect.objectContaining({ reason: 'cbor-too-many-values' }))
  })

  test('random bytes are refused by name, never by accident', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          decodeRecord(bytes)
        } catch (error) {
          expect((error as { reason?: string }).reason).toMatch(/^cbor-/)
        }
      }),
      { numRuns: 5_000 },
    )
  })

  test('one flipped bit gives another value or a refusal, never the same value', () => {
    const value = { $type: 'a.b.c', text: 'héllo', n: -300, list: [1, { $link: CID }], bytes: { $bytes: 'AQID' } }
    const bytes = encodeCbor(value)
    let refused = 0
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      try {
        expect(decodeRecord(flipped)).not.toEqual(value)
      } catch (error) {
        refused++
        expect((error as { reason?: string }).reason).toMatch(/^cbor-/)
      }
    }
    expect(refused).toBeGreaterThan(100)
  })
})

test('an item of an envelope has views of the input, links apart from text, and keys in any order', () => {
  const bytes = asBuffer(
    Buffer.concat([
      hex('01'),
      hex('a2 61 62 42 07 08 61 61 d8 2a 58 25 00'),
      Buffer.from(parseCid(CID)!, 'latin1'),
      hex('02'),
    ]),
  )
  const { value, end } = decodeItem(bytes, 1)
  const map = value as unknown as { a: Link; b: Buffer }
  expect(map.a).toBeInstanceOf(Link)
  expect(formatCid(map.a.cid)).toBe(CID)
  expect(map.b).toEqual(Buffer.of(7, 8))
  expect(map.b.buffer).toBe(bytes.buffer)
  expect(end).toBe(bytes.length - 1)
  expect(() => decodeItem(asBuffer(hex('a2 61 61 01 61 61 02')), 0)).toThrow(
    expect.objectContaining({ reason: 'cbor-not-canonical' }),
  )
})
