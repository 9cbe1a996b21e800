import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { CrowdedError, Throttle } from './throttle.ts'

/** Work that ends when told. */
function gate(): { work: () => Promise<void>; open: () => void; started: () => boolean } {
  let started = false
  const { promise, resolve } = Promise.withResolvers<void>()
  return { work: () => ((started = true), promise), open: resolve, started: () => started }
}

describe('a throttle', () => {
  test('runs so many at once, first come first served', async () => {
    const throttle = new Throttle({ name: 'test', concurrency: 2, perSecond: 1e6, waiting: 10 })
    const gates = [gate(), gate(), gate(), gate()]
    const runs = gates.map(({ work }) => throttle.run(work))
    await Promise.resolve()
    expect(gates.map(({ started }) => started())).toEqual([true, true, false, false])
    gates[1]!.open()
    await runs[1]
    await new Promise(setImmediate)
    expect(gates.map(({ started }) => started())).toEqual([true, true, true, false])
    for (const { open } of gates) open()
    await Promise.all(runs)
  })

  test('turns away who would wait behind too many', async () => {
    const throttle = new Throttle({ name: 'test', concurrency: 1, perSecond: 1e6, waiting: 1 })
    const first = gate()
    const runs = [throttle.run(first.work), throttle.run(async () => undefined)]
    await expect(throttle.run(async () => undefined)).rejects.toThrow(CrowdedError)
    first.open()
    await Promise.all(runs)
  })

  test('starts no more in a second than it may, however quiet it was before', async () => {
    let now = 0
    const throttle = new Throttle({ name: 'test', concurrency: 100, perSecond: 3, waiting: 100 }, { now: () => now })
    now = 1_000_000
    let started = 0
    const runs = Array.from({ length: 5 }, () => throttle.run(async () => void started++))
    await new Promise(setImmediate)
    expect(started).toBe(3)
    now += 400 // one more token, and a bit
    runs.push(throttle.run(async () => void started++))
    await new Promise(setImmediate)
    expect(started).toBe(4)
    now += 10_000
    await Promise.all(runs)
    expect(started).toBe(6)
  })

  test('starts nothing while it is paused, and gives back its place when work fails', async () => {
    let now = 0
    const throttle = new Throttle({ name: 'test', concurrency: 1, perSecond: 1e6, waiting: 10 }, { now: () => now })
    throttle.pause(20)
    let started = false
    const run = throttle.run(async () => {
      started = true
      throw new Error('failed')
    })
    await new Promise(setImmediate)
    expect(started).toBe(false)
    now = 20
    await expect(run).rejects.toThrow('failed')
    await throttle.run(async () => undefined)
  })

  test.each([
    // Of a third place a has nothing.
    [3, ['a1', 'a2', 'b1', 'b2', 'c1', 'a3', 'a4']],
    [2, ['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']],
  ])(
    'of one runs so many at once, and those that have work take turns, whoever has more of it: %i places',
    async (concurrency, order) => {
      const throttle = new Throttle({ name: 'test', concurrency, concurrencyOfOne: 2, perSecond: 1e6, waiting: 1_000 })
      const began: string[] = []
      const ends = new Map<string, () => void>()
      const run = async (whose: string, name: string): Promise<void> => {
        const { promise, resolve } = Promise.withResolvers<void>()
        ends.set(name, resolve)
        await throttle.run(() => (began.push(name), promise), whose)
      }
      const runs = ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1'].map((name) => run(name[0]!, name))
      for (const name of order) {
        await new Promise(setImmediate)
        ends.get(name)!()
      }
      await Promise.all(runs)
      expect(began).toEqual(order)
    },
  )

  test('of one lets so many wait that there is room for the others, however many those are', async () => {
    const throttle = new Throttle({ name: 'test', concurrency: 1, concurrencyOfOne: 1, perSecond: 1e6, waiting: 160 })
    const first = gate()
    const runs = [throttle.run(first.work, 'a')]
    let refused = 0
    for (const whose of ['a', 'b', 'c', 'd', 'e']) {
      for (let i = 0; i < 100; i++) {
        const run = throttle.run(async () => undefined, whose)
        runs.push(run.catch((error: unknown) => (expect(error).toBeInstanceOf(CrowdedError), void refused++)))
      }
    }
    await new Promise(setImmediate)
    // A sixteenth of what the others have left.
    expect(500 - refused).toBe(10 + 10 + 9 + 9 + 8)
    first.open()
    await Promise.all(runs)
  })

  test('of one who is quick runs half of what the others leave, and nothing that waits is turned away', async () => {
    const throttle = new Throttle({ name: 'test', concurrency: 16, concurrencyOfSlow: 2, perSecond: 1e6, waiting: 40 })
    const under = new Map<string, (() => void)[]>()
    const runs = ['a', 'b', 'c', 'd'].flatMap((whose) =>
      Array.from({ length: 12 }, async () => {
        const { promise, resolve } = Promise.withResolvers<void>()
        await throttle.run(() => (under.set(whose, [...(under.get(whose) ?? []), resolve]), promise), whose)
      }),
    )
    const counts = () => [...under.values()].map((open) => open.length)
    await new Promise(setImmediate)
    // Nobody has fewer than one who is slow.
    expect(counts()).toEqual([8, 4, 2, 2])
    for (let left = 48; left > 0;) {
      const open = [...under.values()].flatMap((ends) => ends.splice(0))
      left -= open.length
      for (const end of open) end()
      await new Promise(setImmediate)
    }
    await Promise.all(runs)
  })

  test('who is slow has few places, and whoever finds none is turned away, also who waits; a minute after it has as many as before', async () => {
    let now = 0
    const options = { name: 'test', concurrency: 16, concurrencyOfSlow: 2, lateMs: 5, perSecond: 1e6, waiting: 40 }
    const throttle = new Throttle(options, { now: () => now })
    const open: (() => void)[] = []
    const refusals: unknown[] = []
    const ask = (): void => {
      const { promise, resolve } = Promise.withResolvers<void>()
      throttle.run(() => (open.push(resolve), promise), 'a').catch((error: unknown) => refusals.push(error))
    }
    const end = async (count: number): Promise<void> => {
      for (const one of open.splice(0, count)) one()
      await new Promise(setImmediate)
    }
    for (let i = 0; i < 12; i++) ask()
    await expect.poll(() => refusals.length).toBe(4)
    for (const error of refusals) expect(error).toMatchObject({ name: 'CrowdedError', retryAfterMs: 60_000 })
    expect(open.length).toBe(8)
    await throttle.run(async () => undefined, 'b')
    ask()
    await expect.poll(() => refusals.length).toBe(5)
    await end(7)
    for (let i = 0; i < 3; i++) ask()
    await expect.poll(() => refusals.length).toBe(7)
    expect(open.length).toBe(2)
    await end(2)
    now += 59_000
    for (let i = 0; i < 3; i++) ask()
    await expect.poll(() => refusals.length).toBe(8)
    expect(open.length).toBe(2)
    await end(2)
    now += 120_000
    for (let i = 0; i < 8; i++) ask()
    await expect.poll(() => open.length).toBe(8)
    await end(8)
    expect(refusals.length).toBe(8)
  })
})

describe('a throttle that knows what is late', () => {
  // Real time would make work late before all of it has begun, on a machine that is busy.
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
  afterEach(() => void vi.useRealTimers())

  const LATE_MS = 20
  const OF_SLOW = { name: 'test', concurrency: 16, concurrencyOfSlow: 2, lateMs: LATE_MS, perSecond: 1e6, waiting: 400 }

  /** Work of `whose` that goes on until it is ended. */
  async function begin(throttle: Throttle, whose: string) {
    const { promise, resolve: end } = Promise.withResolvers<void>()
    const work = { state: 'waits', end }
    throttle.run(() => ((work.state = 'begun'), promise), whose).catch((error: Error) => (work.state = error.name))
    await new Promise(setImmediate)
    return work
  }

  /** What is under way now is late. */
  const untilLate = async (): Promise<void> => void (await vi.advanceTimersByTimeAsync(LATE_MS))

  test('a few that are late among many in time make nobody slow', async () => {
    let now = 0
    const throttle = new Throttle(OF_SLOW, { now: () => now })
    const works = [await begin(throttle, 'a')]
    await untilLate()
    for (let i = 0; i < 2 * 16; i++) await throttle.run(async () => undefined, 'a')
    works.push(await begin(throttle, 'a'))
    await untilLate()
    works.push(await begin(throttle, 'a'), await begin(throttle, 'a'))
    expect(works.map(({ state }) => state)).toEqual(Array.from({ length: 4 }, () => 'begun'))
    // Four are late now, and no more were in time.
    await untilLate()
    expect((await begin(throttle, 'a')).state).toBe('CrowdedError')
    for (const { end } of works) end()
    await new Promise(setImmediate)
    now += 61_000
    expect((await begin(throttle, 'a')).state).toBe('begun')
  })

  test('all who are slow hold half of the places, and one who is not finds one', async () => {
    const throttle = new Throttle(OF_SLOW, { now: () => 0 })
    const owners = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    for (const whose of owners) {
      const works = [await begin(throttle, whose), await begin(throttle, whose)]
      await untilLate()
      for (const { end } of works) end()
    }
    const states: string[] = []
    for (const whose of [...owners, ...owners]) states.push((await begin(throttle, whose)).state)
    expect(states.filter((state) => state === 'begun').length).toBe(8)
    expect(states.filter((state) => state === 'CrowdedError').length).toBe(6)
    expect((await begin(throttle, 'honest')).state).toBe('begun')
  })

  /**
   * Each of the owners is silent: what is under way for it is late, and then ends.
   * @returns how much was begun
   */
  async function silentRound(
    throttle: Throttle,
    owners: readonly string[],
    meanwhile?: () => Promise<void>,
  ): Promise<number> {
    const works = []
    for (const whose of owners) for (let i = 0; i < 3; i++) works.push(await begin(throttle, whose))
    const begun = works.filter(({ state }) => state === 'begun').length
    await meanwhile?.()
    await untilLate()
    for (const { end } of works) end()
    await new Promise(setImmediate)
    return begun
  }

  test('eight who are silent have half of the places once, and then none for minutes: the others have theirs meanwhile', async () => {
    let now = 0
    const throttle = new Throttle(OF_SLOW, { now: () => now })
    const owners = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
    for (const whose of owners) {
      await silentRound(throttle, [whose])
      expect(await silentRound(throttle, [whose])).toBe(2)
    }
    let answered = 0
    const others = async (): Promise<void> => {
      for (let i = 0; i < 100; i++) await throttle.run(async () => void answered++, `other ${i % 10}`)
    }
    const begun: number[] = []
    for (let minute = 0; minute < 15; minute++) {
      now += 60_001
      begun.push(await silentRound(throttle, owners, others))
    }
    // Each has one place after 1, 2, 4, 4 and 4 minutes.
    expect(begun).toEqual([8, 0, 8, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 8])
    expect(answered).toBe(15 * 100)
  })

  test('with both limits, eight who are silent hold all places and all room only until they are late: then there is room for others, and half of the places', async () => {
    const throttle = new Throttle({ ...OF_SLOW, concurrencyOfOne: 2, waiting: 8 }, { now: () => 0 })
    const owners = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
    const silent: Awaited<ReturnType<typeof begin>>[] = []
    for (const whose of owners) for (let i = 0; i < 3; i++) silent.push(await begin(throttle, whose))
    const inState = (state: string): number => silent.filter((work) => work.state === state).length
    expect([inState('begun'), inState('waits')]).toEqual([16, 8])
    expect((await begin(throttle, 'honest')).state).toBe('CrowdedError')
    await untilLate()
    expect([inState('begun'), inState('CrowdedError')]).toEqual([16, 8])
    const honest = await begin(throttle, 'honest')
    expect(honest.state).toBe('waits')
    for (const { end } of silent.splice(0)) end()
    await new Promise(setImmediate)
    expect(honest.state).toBe('begun')
    for (const whose of owners) for (let i = 0; i < 3; i++) silent.push(await begin(throttle, whose))
    expect([inState('begun'), inState('CrowdedError')]).toEqual([8, 16])
    const others = [await begin(throttle, 'other'), await begin(throttle, 'other'), await begin(throttle, 'other')]
    expect(others.map(({ state }) => state)).toEqual(['begun', 'begun', 'waits'])
  })

  test('one who is silent, and answers again, has soon as many places as before', async () => {
    let now = 0
    const throttle = new Throttle(OF_SLOW, { now: () => now })
    for (let i = 0; i < 2; i++) await silentRound(throttle, ['a'])
    expect(await silentRound(throttle, ['a'])).toBe(0)
    now += 60_001
    expect(await silentRound(throttle, ['a'])).toBe(1)
    now += 119_000
    expect((await begin(throttle, 'a')).state).toBe('CrowdedError')
    now += 120_001
    for (let i = 0; i < 2; i++) await throttle.run(async () => undefined, 'a')
    const works = [await begin(throttle, 'a'), await begin(throttle, 'a'), await begin(throttle, 'a')]
    expect(works.map(({ state }) => state)).toEqual(['begun', 'begun', 'CrowdedError'])
    now += 61_000
    expect((await begin(throttle, 'a')).state).toBe('begun')
  })

  test('who is turned away since its owner is silent is told when that has a place again', async () => {
    const throttle = new Throttle(OF_SLOW, { now: () => 0 })
    for (let i = 0; i < 2; i++) await silentRound(throttle, ['a'])
    await expect(throttle.run(async () => undefined, 'a')).rejects.toMatchObject({ retryAfterMs: 60_000 })
  })

  test('work that waits and is wanted sooner waits as work of another owner', async () => {
    const options = { name: 'test', concurrency: 4, concurrencyOfOne: 1, perSecond: 1e6, waiting: 100 }
    const throttle = new Throttle(options)
    const first = await begin(throttle, 'a')
    const began: string[] = []
    const works = ['one', 'two', 'three'].map((name) => async () => void began.push(name))
    const runs = works.map((work) => throttle.run(work, 'a'))
    throttle.move(works[1]!, 'a', 'a, urgent')
    await runs[1]
    expect(began).toEqual(['two'])
    // What has begun, or ended, cannot wait.
    throttle.move(works[1]!, 'a', 'a, urgent')
    first.end()
    await Promise.all(runs)
    expect(began).toEqual(['two', 'one', 'three'])
  })
})
