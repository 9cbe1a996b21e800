import { expect, test } from 'vitest'
import { slices } from './slices.ts'

test('slices hold all items in order, and none is empty', () => {
  expect([...slices([1, 2, 3, 4, 5], 2)]).toEqual([[1, 2], [3, 4], [5]])
  expect([...slices([1, 2, 3, 4], 2)]).toEqual([
    [1, 2],
    [3, 4],
  ])
  expect([...slices([], 2)]).toEqual([])
})
