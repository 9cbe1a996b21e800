import { describe, expect, test } from 'vitest'
import { ItemQueue } from './item-queue.ts'

function queue(budgetBytes: number): { queue: ItemQueue<number>; calls: string[] } {
  const calls: string[] = []
  const made = new ItemQueue<number>({
    budgetBytes,
    pause: () => calls.push('pause'),
    resume: () => calls.push('resume'),
  })
  return { queue: made, calls }
}

describe('a queue of items', () => {
  test('gives all that is there, in order, and waits for the first', async () => {
    const { queue: items } = queue(100)
    const first = items.take()
    expect(items.hadItems).toBe(false)
    items.push(1, 1)
    expect(await first).toEqual([1])
    expect(items.hadItems).toBe(true)
    items.push(2, 1)
    items.push(3, 1)
    expect(await items.take()).toEqual([2, 3])
  })

  test('pauses at its budget, once, and resumes when the consumer takes', async () => {
    const { queue: items, calls } = queue(10)
    items.push(1, 9)
    expect([calls, items.isPaused]).toEqual([[], false])
    items.push(2, 1)
    expect([calls, items.isPaused]).toEqual([['pause'], true])
    items.push(3, 5)
    expect([calls, items.isPaused]).toEqual([['pause'], true])
    expect(await items.take()).toEqual([1, 2, 3])
    expect([calls, items.isPaused]).toEqual([['pause', 'resume'], false])
    items.push(4, 9)
    expect(calls).toHaveLength(2)
  })

  test('gives what is left after its end, then nothing, at once', async () => {
    const { queue: items } = queue(10)
    items.push(1, 1)
    items.end()
    items.push(2, 1)
    expect([await items.take(), await items.take()]).toEqual([[1], []])
    const empty = queue(10).queue
    empty.end()
    empty.push(1, 1)
    expect(empty.hadItems).toBe(false)
    const waiting = queue(10)
    const taken = waiting.queue.take()
    waiting.queue.end()
    expect(await taken).toEqual([])
  })
})
