import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe, expect, test } from 'vitest'
import { applyOrBisect, DefectBudget } from './bisect.ts'

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
    return applyOrBisect(events, apply, async (event) => void this.refused.push(event), new DefectBudget())
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
      new DefectBudget(),
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
    await expect(applyOrBisect(upTo(8), apply, async () => {}, new DefectBudget())).rejects.toBe(outage)
    expect(applied).toEqual([0, 1, 2, 3])
  })

  test('when a dead letter cannot be stored, that is thrown on: the event must not be lost', async () => {
    const full = new TransientError('redis is full')
    const apply = async (): Promise<void> => Promise.reject(poisoned)
    await expect(applyOrBisect([1], apply, async () => Promise.reject(full), new DefectBudget())).rejects.toBe(full)
  })
})

/** Applies numbers, all or none; on some it throws an error of no class. */
class Buggy {
  readonly applied: number[] = []
  readonly letters: { event: number; error: RefusedError }[] = []
  readonly defectBudget = new DefectBudget()

  /** @param trips whether an event is one that we trip over */
  run(events: readonly number[], trips: (event: number) => boolean): Promise<void> {
    const apply = async (part: readonly number[]): Promise<void> => {
      const guilty = part.find(trips)
      if (guilty !== undefined) throw new TypeError(`tripped over ${guilty}`)
      this.applied.push(...part)
    }
    return applyOrBisect(
      events,
      apply,
      async (event, error) => void this.letters.push({ event, error }),
      this.defectBudget,
    )
  }
}

describe('an error of no class', () => {
  test('is the doing of the one event that has it: that is given up with its stack, and all others are applied', async () => {
    const buggy = new Buggy()
    await buggy.run(upTo(1_000), (event) => event === 333)
    expect(buggy.applied).toEqual(upTo(1_000).filter((event) => event !== 333))
    const [{ event, error }] = buggy.letters as [Buggy['letters'][0]]
    expect([buggy.letters.length, event, error.reason]).toEqual([1, 333, 'defect'])
    expect(error.message).toContain('TypeError: tripped over 333')
    expect(error.message).toContain('bisect.test.ts')
  })

  test('of an event that comes alone gives it up too, when enough others went through before', async () => {
    const buggy = new Buggy()
    await buggy.run(upTo(60), () => false)
    await buggy.run([60], () => true)
    expect(buggy.letters.map(({ event }) => event)).toEqual([60])
    // What one has spent the next cannot.
    await expect(buggy.run([61], () => true)).rejects.toThrow('tripped over 61')
    expect(buggy.letters).toHaveLength(1)
  })

  test('that hits every event is systemic: it is thrown on after a few, and nobody is given up, however events come', async () => {
    for (const size of [1, 2, 3, 4, 1_000]) {
      const buggy = new Buggy()
      await expect(buggy.run(upTo(size), () => true)).rejects.toThrow(TypeError)
      expect([buggy.applied, buggy.letters]).toEqual([[], []])
    }
  })

  test('that hits one kind of events is systemic too: the rest of the batch goes through, and nobody is given up', async () => {
    const buggy = new Buggy()
    await expect(buggy.run(upTo(1_000), (event) => event % 20 === 19)).rejects.toThrow('tripped over')
    expect(buggy.letters).toEqual([])
    await expect(buggy.run(upTo(30), (event) => event === 7)).resolves.toBeUndefined()
  })

  test('gives up at most one event in fifty, however many batches they come in', async () => {
    const buggy = new Buggy()
    for (let at = 0; at < 5_000; at += 10) {
      await buggy
        .run(
          upTo(10).map((i) => at + i),
          (event) => event % 10 === 3,
        )
        .catch(() => {})
    }
    expect(buggy.letters.length).toBeGreaterThan(0)
    expect(buggy.letters.length).toBeLessThanOrEqual(buggy.applied.length / 50)
  })

  test('after which not even nothing can be applied gives nobody up', async () => {
    const defectBudget = new DefectBudget()
    await applyOrBisect(
      upTo(1_000),
      async () => {},
      async () => {},
      defectBudget,
    )
    const ended = new Error('the pool has ended')
    const refused: number[] = []
    const run = applyOrBisect(
      [1],
      async () => Promise.reject(ended),
      async (event) => void refused.push(event),
      defectBudget,
    )
    await expect(run).rejects.toBe(ended)
    expect(refused).toEqual([])
  })

  test('of the operating system is nobody’s doing', async () => {
    const error = Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE', syscall: 'open' })
    const apply = async (part: readonly number[]): Promise<void> =>
      part.includes(3) ? Promise.reject(error) : undefined
    const run = applyOrBisect(upTo(1_000), apply, async () => Promise.reject(new Error('refused')), new DefectBudget())
    await expect(run).rejects.toBe(error)
  })
})
