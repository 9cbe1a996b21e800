import { expect, test } from 'vitest'
import { BlockIndex, blocksWithin } from './block-index.ts'
import { random } from './testing/random.ts'

const never = () => false

test('blocks whose digests begin alike are told apart by the rest', () => {
  const index = new BlockIndex()
  for (let i = 0; i < 5; i++) index.add(0xffffffff, i, i * 10, i * 10 + 5)
  for (let i = 0; i < 5; i++) expect(index.find(0xffffffff, (number) => number === i)).toBe(i)
  expect(index.find(0xffffffff, never)).toBe(-1)
  expect(index.find(0xfffffffe, () => true)).toBe(-1)
})

test('every block is found where it was put, as the index grows', () => {
  const draw = random('block index')
  const index = new BlockIndex()
  const fingerprints = Array.from({ length: 5_000 }, () => index.fingerprintOf(draw.bytes(36), 0))
  fingerprints.forEach((fingerprint, i) => index.add(fingerprint, i % 7, i, i + 100))
  fingerprints.forEach((fingerprint, i) => {
    const number = index.find(fingerprint, (candidate) => index.startOf(candidate) === i)
    expect([number, index.slabOf(number), index.endOf(number)]).toEqual([i, i % 7, i + 100])
  })
})

test.each([
  ['their first four bytes', (cid: Buffer) => cid.fill(7, 4, 8)],
  ['the ends of their first two words', (cid: Buffer) => cid.fill(7, 6, 8).fill(7, 10, 12)],
])('digests that were chosen to be alike in %s lie in different places, and elsewhere in each index', (_, alike) => {
  const draw = random('chosen')
  const cids = Array.from({ length: 2_000 }, () => alike(Buffer.from(draw.bytes(36))))
  const placesIn = (index: BlockIndex) => cids.map((cid) => index.fingerprintOf(cid, 0) & 0xffff)
  const [one, another] = [placesIn(new BlockIndex()), placesIn(new BlockIndex())]
  expect(new Set(one).size).toBeGreaterThan(1_800)
  expect(one.filter((place, i) => place === another[i]).length).toBeLessThan(20)
})

test('as many blocks as fit into a memory do fit', () => {
  for (const bytes of [100_000, 1_000_000, 5_000_000]) {
    const index = new BlockIndex()
    const most = blocksWithin(bytes)
    for (let i = 0; i < most; i++) index.add(i * 7919, 0, i, i + 1)
    expect(index.memoryBytes).toBe(index.memoryBytesWith(0))
    expect(index.memoryBytes).toBeLessThanOrEqual(bytes)
    expect(index.memoryBytesWith(1)).toBeGreaterThan(bytes)
  }
})
