import { expect, test } from 'vitest'
import { remember } from './remember.ts'

test('the oldest is let go of beyond the capacity; what is noted again is the newest', () => {
  const map = new Map<string, number>()
  for (const [key, value] of [
    ['a', 1],
    ['b', 2],
    ['a', 3],
    ['c', 4],
  ] as const) {
    remember(map, key, value, 2)
  }
  expect([...map]).toEqual([
    ['a', 3],
    ['c', 4],
  ])
})
