import { expect, test } from 'vitest'
import { BlockIndex, fingerprintOf } from './block-index.ts'
import { random } from './testing/random.ts'

test('blocks whose digests begin alike are told apart by the rest', () => {
  const index = new BlockIndex()
  for (let i = 0; i < 5; i++) index.add(0xffffffff, i, i * 10, i * 10 + 5)
  for (let i = 0; i < 5; i++) expect(index.find(0xffffffff, (number) => number === i)).toBe(i)
  expect(index.find(0xffffffff, () => false)).toBe(-1)
  expect(index.find(0xfffffffe, () => true)).toBe(-1)
})

test('every block is found where it was put, as the index grows', () => {
  const draw = random('block index')
  const index = new BlockIndex()
  const fingerprints = Array.from({ length: 5_000 }, () => fingerprintOf(draw.bytes(36), 0))
  fingerprints.forEach((fingerprint, i) => index.add(fingerprint, i % 7, i, i + 100))
  fingerprints.forEach((fingerprint, i) => {
    const number = index.find(fingerprint, (candidate) => index.startOf(candidate) === i)
    expect([number, index.slabOf(number), index.endOf(number)]).toEqual([i, i % 7, i + 100])
  })
})
