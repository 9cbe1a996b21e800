import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { Budget } from './budget.ts'
import { FatalError, isAbort } from './errors.ts'

/** Asks, and notes the name when the budget lets it through. */
function ask(budget: Budget, amount: number, name: string, log: string[], signal = new AbortController().signal) {
  return budget.acquire(amount, signal).then(() => void log.push(name))
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

test('what fits is let through at once, what does not waits for a release', async () => {
  const budget = new Budget(10)
  const log: string[] = []
  void ask(budget, 6, 'a', log)
  void ask(budget, 4, 'b', log)
  void ask(budget, 1, 'c', log)
  await settled()
  expect([log, budget.used, budget.waiting]).toEqual([['a', 'b'], 10, 1])
  budget.release(4)
  await settled()
  expect([log, budget.used, budget.waiting]).toEqual([['a', 'b', 'c'], 7, 0])
})

test('nobody overtakes: a large request is not starved by small ones', async () => {
  const budget = new Budget(10)
  const log: string[] = []
  expect(budget.tryAcquire(8)).toBe(true)
  void ask(budget, 9, 'large', log)
  void ask(budget, 1, 'small', log)
  expect(budget.tryAcquire(1)).toBe(false)
  await settled()
  expect(log).toEqual([])
  budget.release(8)
  await settled()
  expect(log).toEqual(['large', 'small'])
})

test('one over-size request alone is let through, and nothing beside it', async () => {
  const budget = new Budget(10)
  const log: string[] = []
  void ask(budget, 1, 'small', log)
  void ask(budget, 50, 'huge', log)
  void ask(budget, 1, 'after', log)
  await settled()
  expect(log).toEqual(['small'])
  budget.release(1)
  await settled()
  expect([log, budget.used]).toEqual([['small', 'huge'], 50])
  budget.release(50)
  await settled()
  expect(log).toEqual(['small', 'huge', 'after'])
})

test('who gives up takes nothing, and those behind move up', async () => {
  const budget = new Budget(10)
  const log: string[] = []
  const abort = new AbortController()
  budget.tryAcquire(5)
  const given = ask(budget, 10, 'gives up', log, abort.signal).catch((error: unknown) => error)
  void ask(budget, 5, 'behind', log)
  await settled()
  expect(log).toEqual([])
  abort.abort()
  expect(isAbort(await given)).toBe(true)
  await settled()
  expect([log, budget.used, budget.waiting]).toEqual([['behind'], 10, 0])
  await expect(budget.acquire(0, abort.signal)).rejects.toThrow('abort')
})

test('an abort just after the admission leaves the amount with its caller', async () => {
  const budget = new Budget(10)
  const abort = new AbortController()
  budget.tryAcquire(10)
  const acquired = budget.acquire(4, abort.signal)
  budget.release(10)
  abort.abort()
  await acquired
  expect(budget.used).toBe(4)
})

test('releasing more than was acquired is a bug that is noticed', () => {
  const budget = new Budget(10)
  budget.tryAcquire(3)
  expect(() => budget.release(4)).toThrow(FatalError)
  expect(() => new Budget(0)).toThrow(FatalError)
  expect(() => new Budget(NaN)).toThrow(FatalError)
})

test('random use never exceeds the limit and ends empty', async () => {
  const seed = Date.now() % 2 ** 31
  console.log(`seed ${seed}`)
  const random = generator(seed)
  const budget = new Budget(100)
  let peak = 0
  let givenUp = 0
  const user = async () => {
    for (let i = 0; i < 50; i++) {
      const amount = Math.floor(random() * 100)
      const abort = new AbortController()
      if (random() < 0.2) setImmediate(() => abort.abort())
      try {
        await budget.acquire(amount, abort.signal)
      } catch {
        givenUp += 1
        continue
      }
      peak = Math.max(peak, budget.used)
      if (random() < 0.7) await settled()
      budget.release(amount)
    }
  }
  await Promise.all(Array.from({ length: 20 }, user))
  expect(givenUp).toBeGreaterThan(0)
  expect(peak).toBeGreaterThan(50)
  expect(peak).toBeLessThanOrEqual(100)
  expect([budget.used, budget.waiting]).toEqual([0, 0])
})

/** mulberry32. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

test('who was let through leaves nothing at a signal that lives on', async () => {
  const budget = new Budget(1)
  const { signal } = new AbortController()
  await budget.acquire(1, signal)
  const waiting = budget.acquire(1, signal)
  expect(getEventListeners(signal, 'abort').length).toBe(1)
  budget.release(1)
  await waiting
  expect(getEventListeners(signal, 'abort')).toEqual([])
})
