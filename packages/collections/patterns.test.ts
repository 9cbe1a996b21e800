import { FatalError } from '@sluice/runtime/errors.ts'
import { expect, test } from 'vitest'
import { collectionFilter, patternProblem } from './patterns.ts'

test('a namespace covers what is below it, and not what merely begins alike', () => {
  const wanted = collectionFilter(['app.bsky.*', 'chat.bsky.actor.declaration'])
  expect(['app.bsky.feed.post', 'app.bsky.x', 'chat.bsky.actor.declaration'].map(wanted)).toEqual([true, true, true])
  expect(
    ['app.bskyother.foo', 'app.bsky', 'chat.bsky.actor.declarations', 'chat.bsky.actor', 'xapp.bsky.feed.post'].map(
      wanted,
    ),
  ).toEqual([false, false, false, false, false])
})

test('`*` covers all, nothing covers nothing', () => {
  expect(collectionFilter(['*'])('a.b.c')).toBe(true)
  expect(collectionFilter([])('a.b.c')).toBe(false)
})

test.each(['', 'app', 'com.example', 'app.foo.', 'app.bsky*', 'app.*.post', '*.foo', '.*', 'app bsky'])(
  'the pattern %j is a typing error, and told at once',
  (bad) => {
    expect(patternProblem(['app.bsky.*', bad])).toContain(`${JSON.stringify(bad)} is neither an NSID nor a prefix`)
    expect(() => collectionFilter([bad])).toThrow(FatalError)
  },
)
