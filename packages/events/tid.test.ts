import { expect, test } from 'vitest'
import { tidFromMicros, tidNumber, tidOfNumber } from './tid.ts'

const TIDS = [
  '2222222222222',
  '2222222222223',
  '222222222222z',
  '3mfylcu6dsf2t',
  tidFromMicros(2 ** 52, 1_023),
  'jzzzzzzzzzzzz',
]

test('numbers are in the order of their TIDs, and lead back to them', () => {
  expect(TIDS).toEqual(TIDS.toSorted())
  const numbers = TIDS.map(tidNumber)
  expect(numbers).toEqual(numbers.toSorted((a, b) => (a < b ? -1 : 1)))
  expect(numbers.map(tidOfNumber)).toEqual(TIDS)
  expect([numbers[0], numbers[1], numbers.at(-1)]).toEqual([0n, 1n, 2n ** 64n - 1n])
})
