import { expect, test } from 'vitest'
import { HostPlaces } from './host-places.ts'

/** Places, and hosts that answer when they are told to. */
function stage() {
  let nowMs = 0
  const places = new HostPlaces(() => nowMs)
  const open = new Map<string, (() => void)[]>()
  const begun: string[] = []
  const dropped: string[] = []
  const ask = (host: string, { isFirst = false } = {}): void =>
    places.add(host, {
      isFirst,
      ask(answered) {
        begun.push(host)
        const { promise, resolve } = Promise.withResolvers<void>()
        open.set(host, [...(open.get(host) ?? []), () => (answered(), resolve())])
        return promise
      },
      drop: () => void dropped.push(host),
    })
  const answer = async (hosts: readonly string[], tookMs: number): Promise<void> => {
    nowMs += tookMs
    for (const host of hosts) open.get(host)!.shift()!()
    // The place goes on when the promise has settled.
    await new Promise((resolve) => setImmediate(resolve))
  }
  return {
    places,
    ask,
    answer,
    begun,
    dropped,
    underWay: () => [...open].flatMap(([host, rest]) => rest.map(() => host)),
  }
}

const names = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name} ${i}`)

test('a host that was quick waits for none that is silent, nor for one of which nothing is known', async () => {
  const { ask, answer, underWay } = stage()
  ask('good')
  await answer(['good'], 100)
  for (const host of names('silent', 300)) for (let i = 0; i < 3; i++) ask(host)
  expect(underWay()).toEqual(names('silent', 8))
  ask('good')
  expect(underWay()).toContain('good')
})

test('of which nothing is known waits for each that is silent once, whatever waits for those', async () => {
  const { ask, answer, begun, underWay } = stage()
  const silent = names('silent', 20)
  for (const host of silent) for (let i = 0; i < 100; i++) ask(host)
  ask('new')
  await answer(silent.slice(0, 8), 10_000)
  expect(new Set(underWay())).toEqual(new Set(['silent 0', 'silent 1', ...silent.slice(8, 16)]))
  await answer(silent.slice(8, 16), 10_000)
  expect(begun).toContain('new')
  // The silent ones that are known have two places, and take turns there.
  expect(underWay().sort()).toEqual(['new', 'silent 0', 'silent 1', ...silent.slice(16)].sort())
  await answer(['silent 0', 'silent 1'], 10_000)
  expect(begun.slice(-2)).toEqual(['silent 2', 'silent 3'])
})

test('of each host one at a time, in the places of what it is by now', async () => {
  const { ask, answer, underWay } = stage()
  const silent = names('silent', 3)
  for (const host of silent) for (let i = 0; i < 3; i++) ask(host)
  await answer(silent, 10_000)
  expect(underWay()).toEqual(['silent 0', 'silent 1'])
  for (let i = 0; i < 4; i++) ask('host')
  await answer(['host'], 10)
  expect(underWay()).toEqual(['silent 0', 'silent 1', 'host'])
  await answer(['host'], 10_000)
  expect(underWay()).toEqual(['silent 0', 'silent 1'])
  await answer(['silent 0', 'silent 1'], 10_000)
  expect(underWay()).toEqual(['silent 2', 'host'])
  await answer(['host'], 10)
  expect(underWay().sort()).toEqual(['host', 'silent 0', 'silent 2'])
})

test('who says who it is, and then nothing, is no quick one: not before it was silent, and not after', async () => {
  const { ask, answer, underWay } = stage()
  const silent = names('silent', 3)
  const known = async (): Promise<void> => {
    for (const host of silent) ask(host, { isFirst: true })
    for (const host of silent) await answer([host], 10)
    for (const host of silent) ask(host)
  }
  await known()
  // Were they quick, all of the new ones would be under way beside them.
  for (const host of names('new', 8)) ask(host)
  expect(underWay()).toEqual([...silent, ...names('new', 5)])
  await answer(silent, 10_000)
  await known()
  expect(underWay().filter((host) => silent.includes(host))).toEqual(silent.slice(0, 2))
})

test('what we do with an answer does not make its host a slow one', async () => {
  let nowMs = 0
  const places = new HostPlaces(() => nowMs)
  const drop = (): void => expect.fail('there is room')
  const silent = names('silent', 3)
  places.add('good', { ask: async (answered) => (answered(), void (nowMs += 60_000)), drop })
  for (const host of silent) places.add(host, { ask: async () => void (nowMs += 10_000), drop })
  await places.drained()
  const begun: string[] = []
  for (const host of [...silent, 'good']) places.add(host, { ask: async () => void begun.push(host), drop })
  expect(begun).toEqual(['silent 0', 'silent 1', 'good'])
  await places.drained()
})

test('what waits is bounded, and those that are silent leave room for the others', async () => {
  const { ask, answer, dropped, underWay } = stage()
  ask('good')
  await answer(['good'], 10)
  const silent = names('silent', 200)
  for (const host of silent) for (let i = 0; i < 1_002; i++) ask(host)
  // 1,001 of each, one of them under way, until there are 5,000.
  expect(dropped.length).toBe(200 * 1_002 - 5_000)
  ask('new')
  expect(dropped.at(-1)).toBe('new')
  for (let i = 0; i < 1_002; i++) ask('good')
  expect(dropped.at(-1)).toBe('good')
  expect(dropped.filter((host) => host === 'good').length).toBe(1)
  const before = dropped.length
  await answer(silent.slice(0, 5), 10_000)
  // Of each of the five a hundred, or none at all while much else waits, one or two of them under way.
  expect(dropped.length - before).toBeGreaterThanOrEqual(5_000 - 5 - 5 * 100)
  ask('new')
  expect(underWay()).toContain('new')
})

test('hosts of one domain, of each of which nothing is known, leave places and room to those of others', async () => {
  const { ask, answer, underWay, dropped } = stage()
  const evil = Array.from({ length: 6_000 }, (_, i) => `h${i}.evil.example`)
  for (const host of evil) ask(host)
  expect(underWay()).toEqual(evil.slice(0, 4))
  expect(dropped.length).toBe(6_000 - 2_500)
  const others = Array.from({ length: 5 }, (_, i) => `${i}.org`)
  for (const host of others) ask(host)
  expect(underWay()).toEqual([...evil.slice(0, 4), ...others.slice(0, 4)])
  // A place of theirs is for one more of them, though others wait that came later.
  await answer(evil.slice(0, 1), 10_000)
  expect(underWay()).toContain(evil[4])
  await answer(others.slice(0, 1), 100)
  expect(underWay()).toContain(others[4])
  // Those that were quick as well.
  const good = Array.from({ length: 5 }, (_, i) => `good${i}.evil.example`)
  const { ask: askThem, answer: answerFor, underWay: asked } = stage()
  for (const host of good) {
    askThem(host)
    await answerFor([host], 100)
  }
  for (const host of good) askThem(host)
  expect(asked()).toEqual(good.slice(0, 3))
})

test('of several faults of ours the first is told, when all that was under way has ended', async () => {
  const places = new HostPlaces()
  const faults = names('bad', 3).map((host) => {
    const fault = Promise.withResolvers<void>()
    places.add(host, { ask: () => fault.promise, drop: () => {} })
    return fault
  })
  // Those of the others that find no place wait.
  const others = names('other', 8).map((host) => {
    const answer = Promise.withResolvers<void>()
    places.add(host, { ask: () => answer.promise, drop: () => {} })
    return answer
  })
  const drained = places.drained()
  faults[1]!.reject(new Error('the first fault'))
  await Promise.resolve()
  for (const fault of faults) fault.reject(new Error('another fault'))
  for (const answer of others) answer.resolve()
  await expect(drained).rejects.toThrow('the first fault')
})

test('a fault of ours ends it: nothing more is begun, and whoever asks or waits is told', async () => {
  const { places, ask, answer, begun } = stage()
  ask('good')
  places.add('bad', { ask: () => Promise.reject(new Error('a fault of ours')), drop: () => {} })
  for (let i = 0; i < 3; i++) ask('good')
  await answer(['good'], 10)
  await expect(places.drained()).rejects.toThrow('a fault of ours')
  expect(() => ask('good')).toThrow('a fault of ours')
  expect(begun).toEqual(['good'])
})
