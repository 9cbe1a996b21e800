/** What an operator hears of dead letters: each one once, and not each by itself. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { LetterIncidents } from './letter-incidents.ts'

const MINUTE_MS = 60_000

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }))
afterEach(() => void vi.useRealTimers())

function incidents(allowed = 100) {
  const told: string[] = []
  const letters = new LetterIncidents({ stream: 's', allowed, report: ({ what }) => void told.push(what) })
  return { told, letters }
}

const became = (count: number) => `${count} entries of s could not be applied and became dead letters`

test('D5 each dead letter is told of once, those of a minute together, and at the end those that are left', () => {
  const { told, letters } = incidents()
  letters.tell()
  expect(told).toEqual([])
  letters.added(1)
  letters.tell()
  letters.added(2)
  letters.added(3)
  letters.tell()
  expect(told).toEqual([became(1)])
  vi.advanceTimersByTime(MINUTE_MS - 1)
  letters.tell()
  expect(told).toEqual([became(1)])
  vi.advanceTimersByTime(1)
  letters.tell()
  expect(told).toEqual([became(1), became(2)])
  vi.advanceTimersByTime(MINUTE_MS)
  letters.tell()
  expect(told).toHaveLength(2)
  letters.added(4)
  letters.tell()
  letters.added(5)
  letters.tellNow()
  letters.tellNow()
  expect(told.slice(2)).toEqual([became(1), became(1)])
})

test('D5 that their room is almost full, or full, is told every ten minutes at most, whatever else is told', () => {
  const { told, letters } = incidents(10)
  for (let total = 1; total < 8; total++) letters.added(total)
  expect(told).toEqual([])
  letters.added(8)
  expect(told).toEqual(['the dead letters of s hold 8 entries; 10 are allowed'])
  letters.added(9)
  letters.full()
  letters.tell()
  expect(told.slice(1)).toEqual([became(9)])
  vi.advanceTimersByTime(10 * MINUTE_MS)
  letters.full()
  letters.full()
  expect(told.slice(2)).toEqual(['the dead letters of s are full, and the stream waits; 10 are allowed'])
})
