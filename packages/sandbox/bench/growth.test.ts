/** Which windows count as one whole checkpoint. */
import { expect, test } from 'vitest'
import { type GrowthWindow, rateOf, wholeCheckpoint } from './growth.ts'

/** Windows of 100 events; each number is how many checkpoints began in the window. */
function windowsOf(checkpoints: readonly number[], seconds = 1): GrowthWindow[] {
  const costs = { seconds, node: 0, postgres: 0, redis: 0, others: 0, walBytes: 0, statements: 0, transactions: 0 }
  return checkpoints.map((n, i) => ({ before: i * 100, events: 100, costs, checkpoints: n }))
}

test('from the window in which a checkpoint began to the one before the next: around the events that are asked for', () => {
  const windows = windowsOf([0, 1, 0, 0, 1, 0, 1, 0])
  expect(wholeCheckpoint(windows, 350)).toEqual(windows.slice(1, 4))
  expect(wholeCheckpoint(windows, 450)).toEqual(windows.slice(4, 6))
})

test('the last whole one where so many events were not reached, and none where no two checkpoints began', () => {
  const windows = windowsOf([0, 1, 0, 2, 0, 0])
  expect(wholeCheckpoint(windows, 10_000)).toEqual(windows.slice(1, 3))
  expect(wholeCheckpoint(windowsOf([0, 1, 0]), 10)).toEqual([])
})

test('the rate over windows is by their time, not the mean of their rates', () => {
  expect(rateOf([...windowsOf([0], 1), ...windowsOf([0], 3)])).toBe(50)
})
