import { expect, test } from 'vitest'
import {
  chainAddress,
  DATA_CHARS,
  decodeChain,
  encodeChain,
  forgetListed,
  UNKNOWN_CHAIN,
  type ChainRecord,
} from './chain-state.ts'

const ROOT = `\x01\x71\x12\x20${'\xff\x00\x80'.repeat(11).slice(0, 32)}`
const DATA = ROOT.slice(0, DATA_CHARS)
const REVS = ['3mfylcu6dsf2t', '2222222222223', 'jzzzzzzzzzzzz', '3l6oveex3ii2l']

const records: ChainRecord[] = [
  UNKNOWN_CHAIN,
  { ...UNKNOWN_CHAIN, inactive: true },
  ...REVS.map((rev) => ({ rev, data: DATA, exported: true, inactive: false })),
  { rev: REVS[0]!, data: DATA, exported: false, inactive: true, resync: { need: REVS[3]!, askedAt: 4_000_000_000 } },
  { rev: '', data: '', exported: false, inactive: false, resync: { need: '', askedAt: 0 } },
]

test.each(records)('a record survives its bytes: %j', (record) => {
  expect(decodeChain(encodeChain(record))).toStrictEqual(record)
})

test('a whole CID is cut to what a record keeps', () => {
  const record = { ...UNKNOWN_CHAIN, rev: REVS[0]!, data: ROOT }
  expect(decodeChain(encodeChain(record)).data).toBe(DATA)
})

test('the bytes of a rev are ordered as the revs are, since scripts compare them', () => {
  const sorted = [...REVS].sort()
  const bytes = sorted.map((rev) => encodeChain({ ...UNKNOWN_CHAIN, rev, data: DATA }).subarray(0, 8))
  expect(bytes.toSorted((a, b) => Buffer.compare(a, b))).toEqual(bytes)
})

test('an ordinary record takes 25 bytes, one that waits for a resync 37', () => {
  expect(encodeChain(records[2]!)).toHaveLength(25)
  expect(encodeChain(records.at(-1)!)).toHaveLength(37)
})

test('forgotten is only of whom nothing is known but that it was listed', () => {
  const asked = { ...UNKNOWN_CHAIN, resync: { need: '', askedAt: 7 } }
  const kept = [
    ...records.slice(0, -1),
    { ...asked, exported: true },
    { ...asked, inactive: true },
    { ...asked, rev: REVS[0]!, data: DATA },
    { ...asked, resync: { need: REVS[0]!, askedAt: 7 } },
  ]
  const step = (record: ChainRecord) => forgetListed('did:web:a.b', { record, bytes: encodeChain(record) })
  expect(kept.map(step)).toEqual(kept.map(() => undefined))
  expect(step(asked)).toEqual({ step: 'swap', ...chainAddress('did:web:a.b'), from: encodeChain(asked), to: undefined })
})

test('every DID has an address of its own', () => {
  const plc = chainAddress('did:plc:z72i7hdynmk6r22z27h6tvur')
  expect(plc.field.toString('hex')).toBe('cff48f9c786b15e8eb59d7cfe9d691') // RFC 4648, by another implementation
  const others = [
    'did:web:a.b',
    'did:web:abc.xyz',
    'did:web:abcd.xyz',
    'did:plc:TOOSHORT',
    'did:plc:z72i7hdynmk6r22z27h6tvu1',
  ]
  const fields = [plc, ...others.map(chainAddress)].map(({ field }) => field.toString('latin1'))
  expect(new Set(fields).size).toBe(fields.length)
  for (const did of others) expect(chainAddress(did).field.length).not.toBe(15)
  expect(chainAddress('did:plc:z72i7hdynmk6r22z27h6tvus').field).not.toEqual(plc.field)
})
