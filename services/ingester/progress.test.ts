import { expect, test } from 'vitest'
import { Progress, type Slot } from './progress.ts'

const end = (...slots: Slot[]): void => {
  for (const slot of slots) slot.outcome = 'appended'
}

test('the cursor is the last position all of whose predecessors have ended', () => {
  const progress = new Progress(10)
  const [a, b, c] = [11, 12, 15].map((seq) => progress.take(seq))
  end(b!, c!)
  expect(progress.advance()).toBeUndefined()
  end(a!)
  expect(progress.advance()).toMatchObject({ cursor: 15, slots: 3, counts: new Map([['appended', 3]]) })
  expect(progress.cursor).toBe(10)
  progress.moved(progress.advance()!)
  expect(progress.cursor).toBe(15)
  expect(progress.open).toBe(0)
})

test('what is asked for twice before it was stored is told twice, and counted once', () => {
  const progress = new Progress(undefined)
  end(progress.take(0))
  const advance = progress.advance()!
  expect(progress.advance()).toEqual(advance)
  progress.moved(advance)
  expect(progress.advance()).toBeUndefined()
  expect(progress.cursor).toBe(0)
})

test('frames without a position are passed with the next that has one', () => {
  const progress = new Progress(1)
  end(progress.take(undefined))
  expect(progress.advance()).toBeUndefined()
  end(progress.take(2), progress.take(undefined))
  expect(progress.advance()).toMatchObject({ cursor: 2, counts: new Map([['appended', 2]]) })
})

test('after a reconnect those behind the last position come again, and are not counted twice', () => {
  const progress = new Progress(1)
  end(progress.take(undefined), progress.take(2), progress.take(undefined), progress.take(undefined))
  progress.reconnect()
  expect(progress.highest).toBe(2)
  end(progress.take(undefined), progress.take(undefined), progress.take(3))
  expect(progress.advance()).toMatchObject({ cursor: 3, counts: new Map([['appended', 5]]) })
})

test('it stays small however much passes', () => {
  const progress = new Progress(undefined)
  for (let seq = 0; seq < 50_000; seq++) {
    end(progress.take(seq))
    if (seq % 100 === 99) progress.moved(progress.advance()!)
  }
  expect(progress.cursor).toBe(49_999)
  expect(progress.open).toBe(0)
})
