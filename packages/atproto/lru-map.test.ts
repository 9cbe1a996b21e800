import { expect, test } from 'vitest'
import { LruMap } from './lru-map.ts'

test('as many as there is room for are remembered, those that were asked for last', () => {
  const recent = new LruMap<number>(3)
  for (const [i, name] of ['a', 'b', 'c'].entries()) recent.set(name, i)
  expect(recent.get('a')).toBe(0)
  recent.set('d', 3)
  expect(['a', 'b', 'c', 'd'].map((name) => recent.get(name))).toEqual([0, undefined, 2, 3])
  recent.set('e', 4)
  expect(['a', 'b', 'c', 'd', 'e'].map((name) => recent.get(name))).toEqual([undefined, undefined, 2, 3, 4])
})
