/**
 * The limits of each type: for values just inside and just outside, compares our verdict with that of the official
 * library.
 */
import { expect, test } from 'vitest'
import { compileRecord } from './compile.ts'
import { EVERYTHING, everythingDocuments } from './testing/lexicons.ts'
import { officialVerdict } from './testing/official.ts'

const RAW = 'bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity'
const CBOR = 'bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq'
const RAW_SHA512 =
  'bafkrgqbmjhhv4ehvfxobh5xzwvwrpcrbpdegkh4ovnynqtdd5rnw5vnvv6gqoyxwrzmlpl2gz7oocehxvlmcdhpf7jb2wjgqqx4eslk6lfgrs'
const V0 = 'QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR'
const bytes = (length: number): object => ({ $bytes: Buffer.alloc(length).toString('base64') })
const blob = (changes: object = {}): object => ({
  $type: 'blob',
  ref: { $link: RAW },
  mimeType: 'image/png',
  size: 1,
  ...changes,
})
const node = { $type: `${EVERYTHING}#node`, id: '3kznmn7xqxl22' }

/** By property of the record: values that are accepted, and values that are refused. */
const EDGES: Readonly<Record<string, readonly [accepted: readonly unknown[], refused: readonly unknown[]]>> = {
  name: [
    ['', '\0', '\uD800'],
    [null, 1, {}, ['x'], { $link: RAW }],
  ],
  nullableRequired: [
    [null, 0, -0, Number.MAX_SAFE_INTEGER],
    [2 ** 53, 1.5, 1e300, '1', true],
  ],
  nullableOptional: [
    [null, node],
    [{}, false],
  ],
  lengths: [
    ['a'.repeat(10), 'é'.repeat(5), 'あ'.repeat(4), 'a'.repeat(20), 'あ'.repeat(6), '\uD800'.repeat(6)],
    ['a'.repeat(9), 'éééé', 'あああ', 'a'.repeat(21), 'あ'.repeat(7), '\uD800'.repeat(7)],
  ],
  graphemes: [
    ['a'.repeat(10), '👍🏽'.repeat(10), 'e\u0301'.repeat(20), '\r\n'.repeat(20)],
    ['a'.repeat(9), '👍🏽'.repeat(9), 'e\u0301'.repeat(21), 'a'.repeat(21)],
  ],
  known: [['red', 'blue'], ['a'.repeat(12)]],
  chosen: [
    ['fish', 'tree'],
    ['Fish', '', null],
  ],
  fixed: [['stone'], ['fish', '']],
  nothing: [[], ['a', 'b', null]],
  count: [
    [-10, 10, 0],
    [-11, 11],
  ],
  chosenCount: [
    [0, 4],
    [1, '4', true],
  ],
  fixedCount: [[42], [41, '42']],
  flag: [
    [true, false],
    [0, 'true', null],
  ],
  yes: [[true], [false]],
  no: [[false], [true, 0, null]],
  bytes: [
    [bytes(0), bytes(9), { $bytes: 'AA' }, { $bytes: 'AA==' }],
    [{ $bytes: 'A' }, { $bytes: 1 }, { $bytes: 'AA', a: 1 }, 'AA', {}, [0]],
  ],
  someBytes: [
    [bytes(10), bytes(20)],
    [bytes(9), bytes(21)],
  ],
  link: [
    [{ $link: RAW }, { $link: CBOR }, { $link: RAW_SHA512 }, { $link: V0 }],
    [{ $link: '' }, { $link: 'x' }, { $link: RAW, a: 1 }, RAW, {}, { $link: RAW, $bytes: 'AA' }],
  ],
  blob: [
    [blob(), blob({ size: 0 }), blob({ mimeType: '/' }), blob({ ref: { $link: RAW_SHA512 } })],
    [
      blob({ ref: { $link: CBOR } }),
      blob({ ref: { $link: V0 } }),
      blob({ ref: RAW }),
      blob({ size: -1 }),
      blob({ size: 1.5 }),
      blob({ size: '1' }),
      blob({ mimeType: 'image' }),
      blob({ a: 1 }),
      blob({ $type: 'Blob' }),
      { cid: RAW, mimeType: 'image/png' },
      { $link: RAW },
    ],
  ],
  picture: [
    [
      blob(),
      blob({ mimeType: 'image/' }),
      blob({ mimeType: 'image/svg+xml;a' }),
      blob({ mimeType: 'video/mp4', size: 1_000_000 }),
    ],
    [
      blob({ mimeType: 'IMAGE/png' }),
      blob({ mimeType: 'video/mp4;a' }),
      blob({ mimeType: 'ximage/png' }),
      blob({ size: 1_000_001 }),
    ],
  ],
  anyBlob: [[blob({ mimeType: 'a/b' })], [blob({ mimeType: 'ab' })]],
  noBlob: [[], [blob()]],
  unknown: [
    [{}, { a: [1e300, null] }, { $type: 1 }, { $link: 'x' }],
    [{ a: 1.5 }, { a: [{ b: 0.1 }] }, { $link: RAW }, bytes(1), [], 'x', null],
  ],
  unknowns: [
    [[], [{}, {}]],
    [[[]], [1], [{ $link: RAW }]],
  ],
  list: [
    [['did:a:b', 'did:a:b']],
    [['did:a:b'], Array(6).fill('did:a:b'), ['did:a:b', null], { 0: 'did:a:b', 1: 'did:a:b', length: 2 }],
  ],
  open: [
    [
      node,
      { $type: 'x' },
      { $type: '' },
      { $type: `${EVERYTHING}#main`, a: 1 },
      { $type: 'com.example.other#thing', value: {} },
    ],
    [
      {},
      { $type: null },
      { $type: `${EVERYTHING}#node` },
      { $type: 'com.example.other#thing', value: 1 },
      { $link: RAW },
      [],
    ],
  ],
  closed: [[node], [{ $type: 'x' }, { $type: `${EVERYTHING}#empty` }, {}]],
  openNothing: [[{ $type: 'x' }], [{}]],
  closedNothing: [[], [{ $type: 'x' }, {}]],
  token: [[`${EVERYTHING}#aToken`], ['aToken', '#aToken', null]],
  otherRecord: [
    [{ $type: 'com.example.other', at: '2026-11-21T00:00:00Z' }],
    [{ at: '2026-11-21T00:00:00Z' }, { $type: 'com.example.other#main', at: '2026-11-21T00:00:00Z' }],
  ],
  otherList: [[[{}]], [[], [{}, {}, {}, {}, {}]]],
  unions: [
    [[node], [{ $type: 'com.example.other', at: '2026-11-21T00:00:00Z' }], [{ $type: 'com.example.other#main' }]],
    [[{ $type: 'com.example.other' }]],
  ],
  empty: [
    [{}, { a: 1.5 }, { $type: `${EVERYTHING}#empty` }, { $link: 'x' }, { $link: RAW, $bytes: 'AA' }, { $link: null }],
    [{ $link: RAW }, bytes(1), { $type: null }, { $type: 'x' }, [], null, ''],
  ],
}

const official = await officialVerdict(everythingDocuments, EVERYTHING)
const ours = compileRecord(EVERYTHING, everythingDocuments)

const verdicts = Object.entries(EDGES).flatMap(([key, [accepted, refused]]) => [
  ...accepted.map((value) => ({ key, value, isAccepted: true })),
  ...refused.map((value) => ({ key, value, isAccepted: false })),
])

test.each(verdicts)('$key $value is accepted: $isAccepted', ({ key, value, isAccepted }) => {
  const record = { $type: EVERYTHING, name: 'x', nullableRequired: 1, [key]: value }
  expect(official(record)).toBe(isAccepted)
  const violation = ours.validate(record)
  if (isAccepted) expect(violation).toBeUndefined()
  else expect(violation?.path.startsWith(`record.${key}`)).toBe(true)
})

test.each(['name', 'nullableRequired'])('%s must be there', (key) => {
  const record = { $type: EVERYTHING, name: 'x', nullableRequired: 1, [key]: undefined }
  expect(official(record)).toBe(false)
  expect(ours.validate(record)).toEqual({ path: `record.${key}`, message: 'is missing' })
})
