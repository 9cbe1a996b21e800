/** Those from which all others are come upon, on made-up threads. */
import { collection } from '@sluice/collections/define.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { expect, test } from 'vitest'
import { topmost } from './hand-over.ts'

test.for<[string, [string, string][], string[]]>([
  ['what hangs from nothing', [], ['a', 'b', 'c', 'd', 'e']],
  [
    'what hangs from another that hangs from a third',
    [
      ['a', 'b'],
      ['b', 'e'],
      ['c', 'e'],
    ],
    ['d', 'e'],
  ],
  ['what hangs from itself', [['c', 'c']], ['a', 'b', 'c', 'd', 'e']],
  [
    'a circle',
    [
      ['a', 'b'],
      ['b', 'c'],
      ['c', 'a'],
    ],
    ['c', 'd', 'e'],
  ],
  [
    'a circle, and what hangs on it',
    [
      ['a', 'b'],
      ['b', 'c'],
      ['c', 'd'],
      ['d', 'c'],
      ['e', 'b'],
    ],
    ['d'],
  ],
])('of %s', ([, above, top]) => {
  expect(topmost(['a', 'b', 'c', 'd', 'e'], new Map(above)).sort()).toEqual(top)
})

test('all is come upon from the topmost, and of these none from another, whoever hangs from whom', () => {
  const random = new Random(7)
  for (let round = 0; round < 500; round++) {
    const uris = Array.from({ length: 1 + random.below(12) }, (_, n) => String(n))
    const above = new Map(uris.flatMap((uri) => (random.chance(0.8) ? [[uri, random.pick(uris)] as const] : [])))
    const top = topmost(random.shuffled(uris), above)
    const wayUp = (uri: string): Set<string> => {
      const way = new Set<string>()
      for (let at: string | undefined = uri; at !== undefined && !way.has(at); at = above.get(at)) way.add(at)
      return way
    }
    for (const uri of uris) expect(top.filter((one) => wayUp(uri).has(one))).toHaveLength(1)
  }
})

test('a collection whose records depend on others cannot be written without what they hang from: they would be left out of what is handed over', () => {
  const derive = async (): Promise<void> => {}
  // @ts-expect-error `hangsFrom` is missing.
  const plugin = collection('com.example.thing', { rows: () => [], derive })
  expect(plugin.derive).toBe(derive)
})
