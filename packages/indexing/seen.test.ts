/** D8: what was come upon is known again, among a hundred thousand others. */
import { expect, test } from 'vitest'
import { Seen } from './seen.ts'

const uriOf = (n: number): string => `at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3k${n}`

test('each of 100,000 is new once, and what was not come upon is not there', () => {
  const seen = new Seen()
  let news = 0
  for (const _ of [1, 2]) for (let n = 0; n < 100_000; n++) if (seen.add(uriOf(n))) news++
  expect([news, seen.size]).toEqual([100_000, 100_000])
  const known = Array.from({ length: 200_000 }, (_, n) => n).filter((n) => seen.has(uriOf(n)))
  expect(known).toEqual(Array.from({ length: 100_000 }, (_, n) => n))
})
