import { describe, expect, test } from 'vitest'
import { decodeBase58, encodeBase58 } from './base58.ts'
import { base32, cidOf, formatCid, hashesTo, isDagCbor, parseBase32, parseCid, readCid } from './cid.ts'
import { random } from './testing/random.ts'

const CID = 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a'
const RAW_CID = 'bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity'

describe('a CID', () => {
  test.each([CID, RAW_CID])('%s survives text → bytes → text', (text) => {
    const cid = parseCid(text)!
    expect(cid).toHaveLength(36)
    expect(formatCid(cid)).toBe(text)
    const bytes = Buffer.concat([Uint8Array.of(9), Buffer.from(cid, 'latin1')])
    expect(readCid(bytes, 1)).toBe(cid)
    expect(readCid(bytes, 0)).toBeUndefined()
    expect(isDagCbor(cid)).toBe(text === CID)
  })

  test.each([
    ['of another length', CID.slice(0, -1)],
    ['of another base', `z${CID.slice(1)}`],
    ['with a foreign character', CID.replace('y', '1')],
    ['with spare bits set', `${CID.slice(0, -1)}b`],
    ['of version 0', 'QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG'],
    ['of another codec', base32(Buffer.concat([Uint8Array.of(1, 0x70, 0x12, 0x20), Buffer.alloc(32)]))],
    ['of another hash', base32(Buffer.concat([Uint8Array.of(1, 0x71, 0x13, 0x20), Buffer.alloc(32)]))],
    ['', ''],
  ])('%s is none', (_, text) => {
    expect(parseCid(text)).toBeUndefined()
  })

  test('names its block', () => {
    const block = Buffer.from('a0', 'hex')
    expect(formatCid(cidOf(block))).toBe('bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua')
    const cid = Buffer.from(cidOf(block), 'latin1')
    expect(hashesTo(block, cid, 0)).toBe(true)
    expect(hashesTo(Buffer.from('a1', 'hex'), cid, 0)).toBe(false)
  })
})

test('base32 and base58 survive any length', () => {
  const draw = random('bases')
  for (let length = 0; length < 70; length++) {
    const bytes = draw.bytes(length)
    expect(Buffer.from(parseBase32(base32(bytes))!)).toEqual(bytes)
    expect(Buffer.from(decodeBase58(encodeBase58(bytes))!)).toEqual(bytes)
  }
  expect(encodeBase58(Buffer.from('0000287fb4cd', 'hex'))).toBe('11233QC4')
  expect(decodeBase58('0OIl')).toBeUndefined()
})
