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

test('frames that never get a position take no room, and are counted once', () => {
  const progress = new Progress(1)
  let most = 0
  for (let i = 1; i <= 50_000; i++) {
    end(progress.take(undefined))
    most = Math.max(most, progress.open)
    if (i % 100 === 0) progress.fold()
  }
  expect(most).toBeLessThan(2_000)
  expect(progress.advance()).toBeUndefined()
  end(progress.take(2))
  expect(progress.advance()).toMatchObject({ cursor: 2, counts: new Map([['appended', 50_001]]) })
})

test('what ended behind one that is open takes no room either, and is counted once, to the last position', () => {
  const progress = new Progress(1)
  const first = progress.take(2)
  let most = 0
  for (let seq = 3; seq < 50_000; seq++) {
    end(progress.take(undefined), progress.take(seq, `at ${seq}`))
    progress.take(undefined).outcome = 'unknown-type'
    most = Math.max(most, progress.open)
    if (seq % 100 === 0) progress.fold()
  }
  expect(most).toBeLessThan(2_000)
  const second = progress.take(50_000)
  end(progress.take(50_001))
  expect(progress.advance()).toBeUndefined()
  end(first)
  const ended = { cursor: 49_999, time: 'at 49999', counts: new Map([['appended', 99_995], ['unknown-type', 49_996]]) } // prettier-ignore
  expect(progress.advance()).toMatchObject(ended)
  progress.moved(progress.advance()!)
  end(second)
  expect(progress.advance()).toMatchObject({ cursor: 50_001, counts: new Map([['unknown-type', 1], ['appended', 2]]) }) // prettier-ignore
})

test('a reconnect drops what was folded behind the last position, and nothing before it', () => {
  const progress = new Progress(1)
  const first = progress.take(2)
  for (let i = 0; i < 2_000; i++) end(progress.take(undefined))
  end(progress.take(3))
  for (let i = 0; i < 2_000; i++) end(progress.take(undefined))
  progress.fold()
  expect(progress.open).toBe(3)
  progress.reconnect()
  end(first)
  expect(progress.advance()).toMatchObject({ cursor: 3, counts: new Map([['appended', 2_002]]) })
  progress.moved(progress.advance()!)
  expect(progress.open).toBe(0)
})
