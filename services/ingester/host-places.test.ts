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
      ask({ asked, answered }) {
        begun.push(host)
        asked()
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
  expect(new Set(underWay())).toEqual(new Set([...silent.slice(0, 3), ...silent.slice(8, 16)]))
  await answer(silent.slice(8, 16), 10_000)
  expect(begun).toContain('new')
  // The silent ones that are known have three places, and take turns there.
  expect(underWay().sort()).toEqual(['new', ...silent.slice(0, 3), ...silent.slice(16)].sort())
  await answer(silent.slice(0, 2), 10_000)
  expect(begun.slice(-2)).toEqual(['silent 3', 'silent 4'])
})

test('of each host one at a time, in the places of what it is by now', async () => {
  const { ask, answer, underWay } = stage()
  const silent = names('silent', 4)
  for (const host of silent) for (let i = 0; i < 3; i++) ask(host)
  await answer(silent, 10_000)
  expect(underWay()).toEqual(silent.slice(0, 3))
  for (let i = 0; i < 4; i++) ask('host')
  await answer(['host'], 10)
  expect(underWay()).toEqual([...silent.slice(0, 3), 'host'])
  await answer(['host'], 10_000)
  expect(underWay()).toEqual(silent.slice(0, 3))
  await answer(silent.slice(0, 3), 10_000)
  expect(underWay().sort()).toEqual(['host', 'silent 0', 'silent 3'])
  await answer(['host'], 10)
  expect(underWay().sort()).toEqual(['host', 'silent 0', 'silent 1', 'silent 3'])
})

test('who says who it is, and then nothing, is no quick one: not before it was silent, and not after', async () => {
  const { ask, answer, underWay } = stage()
  const silent = names('silent', 4)
  const known = async (): Promise<void> => {
    for (const host of silent) ask(host, { isFirst: true })
    for (const host of silent) await answer([host], 10)
    for (const host of silent) ask(host)
  }
  await known()
  // Were they quick, all of the new ones would be under way beside them.
  for (const host of names('new', 8)) ask(host)
  expect(underWay()).toEqual([...silent, ...names('new', 4)])
  await answer(silent, 10_000)
  await known()
  expect(underWay().filter((host) => silent.includes(host))).toEqual(silent.slice(0, 3))
})

test('what is waited for before a host is asked, or done with its answer, does not make it a slow one', async () => {
  let nowMs = 0
  const places = new HostPlaces(() => nowMs)
  const drop = (): void => expect.fail('there is room')
  const silent = names('silent', 4)
  const pass = (ms: number): void => void (nowMs += ms)
  places.add('good', { ask: async (watch) => (pass(60_000), watch.asked(), watch.answered(), pass(60_000)), drop })
  places.add('turned away', { isFirst: true, ask: async () => pass(60_000), drop })
  for (const host of silent) places.add(host, { ask: async (watch) => (watch.asked(), pass(10_000)), drop })
  await places.drained()
  const begun: string[] = []
  for (const host of [...silent, 'good', 'turned away'])
    places.add(host, { ask: async () => void begun.push(host), drop })
  expect(begun).toEqual([...silent.slice(0, 3), 'good', 'turned away'])
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

const below = (domain: string, count: number) => Array.from({ length: count }, (_, i) => `h${i}.${domain}`)

test('hosts of one domain, of each of which nothing is known, leave places and room to those of others', async () => {
  const { ask, answer, underWay, dropped } = stage()
  const evil = below('evil.example', 6_000)
  for (const host of evil) ask(host)
  // While nobody else asks it has all places but one.
  expect(underWay()).toEqual(evil.slice(0, 7))
  expect(dropped.length).toBe(6_000 - 2_500)
  const others = Array.from({ length: 6 }, (_, i) => `${i}.org`)
  ask(others[0]!)
  expect(underWay()).toEqual([...evil.slice(0, 7), others[0]])
  for (const host of others.slice(1)) ask(host)
  await answer(evil.slice(0, 3), 10_000)
  expect(underWay()).toEqual([...evil.slice(3, 7), ...others.slice(0, 4)])
  // A place of its part is for one more of it when its turn comes, though others wait.
  await answer(evil.slice(3, 5), 10_000)
  expect(underWay().sort()).toEqual([...evil.slice(5, 8), ...others.slice(0, 5)].sort())
})

test('those of one domain that were quick have three of four places, as long as others ask as well or not', async () => {
  const { ask, answer, underWay } = stage()
  const good = [...below('good.example', 5), '0.org', '1.org']
  for (const host of good) {
    ask(host)
    await answer([host], 100)
  }
  for (const host of good.slice(0, 5)) ask(host)
  expect(underWay()).toEqual(good.slice(0, 3))
  for (const host of good.slice(5)) ask(host)
  expect(underWay()).toEqual([...good.slice(0, 3), '0.org'])
  await answer(['0.org'], 100)
  expect(underWay()).toEqual([...good.slice(0, 3), '1.org'])
})

test('what one owner has beyond its part goes to the others as its questions end, and to nobody else while they want it', async () => {
  const { ask, answer, underWay } = stage()
  const [one, two] = ['one.example', 'two.example'].map((domain) => below(domain, 20)) as [string[], string[]]
  for (const host of one) ask(host)
  for (const host of two) ask(host)
  const count = () => underWay().filter((host) => one.includes(host)).length
  const counts = [count()]
  for (let i = 0; i < 6; i++) {
    await answer([underWay().find((host) => one.includes(host))!], 100)
    counts.push(count())
    expect(underWay().length).toBe(8)
  }
  expect(counts).toEqual([7, 6, 5, 4, 4, 4, 4])
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
