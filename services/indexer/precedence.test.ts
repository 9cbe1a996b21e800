import { expect, test } from 'vitest'
import { Precedence } from './precedence.ts'

test('while a more urgent stream flows the others get small batches, and full ones when it is quiet', () => {
  let nowMs = 10_000
  const precedence = new Precedence(3, 1, 0.125, () => nowMs)
  const shares = (): number[] => [0, 1, 2].map((index) => precedence.batchShare(index))
  expect(shares()).toEqual([1, 1, 1])
  precedence.read(1)
  expect(shares()).toEqual([1, 1, 0.125])
  nowMs += 1_000
  precedence.read(0)
  expect(shares()).toEqual([1, 0.125, 0.125])
  nowMs += 1_999
  expect(shares()).toEqual([1, 0.125, 0.125])
  nowMs += 1
  expect(shares()).toEqual([1, 1, 1])
})

test('one stream at a time works in a lane, and lanes do not wait for each other', async () => {
  const precedence = new Precedence(2, 2, 0.125)
  const live = await precedence.turn(0)
  let isBackfillIn = false
  const backfill = precedence.turn(0).then((turn) => {
    isBackfillIn = true
    return turn
  })
  await precedence.turn(1)
  expect(isBackfillIn).toBe(false)
  live[Symbol.dispose]()
  await backfill
})
