import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe, expect, test } from 'vitest'
import { applyOrBisect } from './bisect.ts'

const poisoned = new RefusedError('invalid-text', 'poison')

/** Applies numbers, all or none; `poison` cannot be applied. */
class Store {
  readonly applied: number[] = []
  readonly refused: number[] = []
  calls = 0
  readonly #poison: ReadonlySet<number>

  constructor(poison: Iterable<number>) {
    this.#poison = new Set(poison)
  }

  run(events: readonly number[]): Promise<void> {
    const apply = async (part: readonly number[]): Promise<void> => {
      this.calls++
      if (part.some((event) => this.#poison.has(event))) throw poisoned
      this.applied.push(...part)
    }
    return applyOrBisect(events, apply, async (event) => void this.refused.push(event))
  }
}

const upTo = (length: number): number[] => Array.from({ length }, (_, i) => i)

describe('applyOrBisect', () => {
  test('a good batch is applied at once', async () => {
    const store = new Store([])
    await store.run(upTo(1_000))
    expect([store.applied, store.refused, store.calls]).toEqual([upTo(1_000), [], 1])
  })

  test('an empty batch is not applied at all', async () => {
    const store = new Store([])
    await store.run([])
    expect(store.calls).toBe(0)
  })

  test('one poison event among 1,000 is refused alone, in about 20 parts', async () => {
    for (const at of [0, 1, 499, 500, 998, 999]) {
      const store = new Store([at])
      await store.run(upTo(1_000))
      expect(store.refused).toEqual([at])
      expect(store.applied).toEqual(upTo(1_000).filter((event) => event !== at))
      expect(store.calls).toBeLessThan(23)
    }
  })

  test('whatever is poison, every event is applied or refused once, in order', async () => {
    const random = new Random(5)
    for (let i = 0; i < 50; i++) {
      const events = upTo(1 + random.below(60))
      const poison = events.filter(() => random.chance(0.3))
      const store = new Store(poison)
      await store.run(events)
      expect(store.refused).toEqual(poison)
      expect(store.applied).toEqual(events.filter((event) => !poison.includes(event)))
    }
  })

  test('an outage is nobody’s fault: it is thrown on, and nobody refused', async () => {
    const outage = new TransientError('away')
    const refused: number[] = []
    const run = applyOrBisect(
      upTo(8),
      async () => Promise.reject(outage),
      async (event) => void refused.push(event),
    )
    await expect(run).rejects.toBe(outage)
    expect(refused).toEqual([])
  })

  test('an outage in the middle of the search is thrown on too; what was applied stays applied', async () => {
    const outage = new TransientError('away')
    const applied: number[] = []
    const apply = async (part: readonly number[]): Promise<void> => {
      if (part.length === 8) throw poisoned
      if (part.includes(7)) throw outage
      applied.push(...part)
    }
    await expect(applyOrBisect(upTo(8), apply, async () => {})).rejects.toBe(outage)
    expect(applied).toEqual([0, 1, 2, 3])
  })

  test('when a dead letter cannot be stored, that is thrown on: the event must not be lost', async () => {
    const full = new TransientError('redis is full')
    const apply = async (): Promise<void> => Promise.reject(poisoned)
    await expect(applyOrBisect([1], apply, async () => Promise.reject(full))).rejects.toBe(full)
  })
})
