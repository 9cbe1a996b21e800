import { expect, test } from 'vitest'
import { BusyOwnerError, HostPace, SlowHostError } from './host-pace.ts'

/** A host that takes as long as it is told, and whether it was asked. */
function hosts() {
  let nowMs = 0
  const pace = new HostPace(() => nowMs)
  const asked = async (host: string, tookMs: number, { inHaste = true } = {}): Promise<boolean> => {
    let wasAsked = false
    const ask = async (): Promise<void> => {
      wasAsked = true
      nowMs += tookMs
    }
    await pace.ask(host, inHaste, ask).catch((error: unknown) => expect(error).toBeInstanceOf(SlowHostError))
    return wasAsked
  }
  return { pace, asked, pass: (ms: number) => void (nowMs += ms), nowMs: () => nowMs }
}

test('a host that answers just in time has a tenth of a place that others wait for, and an unlimited one of its own kind', async () => {
  const { asked, pass, nowMs } = hosts()
  let heldMs = 0
  while (nowMs() < 3_600_000) {
    if (await asked('slow', 9_900)) heldMs += 9_900
    else pass(1_000)
  }
  expect(heldMs / nowMs()).toBeGreaterThan(0.05)
  expect(heldMs / nowMs()).toBeLessThan(0.12)
  expect(await asked('slow', 9_900, { inHaste: false })).toBe(true)
})

test('one that answers soon every second time has no more', async () => {
  const { asked, pass, nowMs } = hosts()
  let heldMs = 0
  while (nowMs() < 3_600_000) {
    if (await asked('moody', 9_900)) heldMs += 9_900
    else pass(500)
    await asked('moody', 500, { inHaste: false })
  }
  expect(heldMs / nowMs()).toBeLessThan(0.12)
})

test('one that answers soon is asked each time, whatever others owe; one that was slow for once is soon asked again', async () => {
  const { asked, pass } = hosts()
  expect(await asked('slow', 9_900)).toBe(true)
  for (let i = 0; i < 10_000; i++) expect(await asked('good', 900)).toBe(true)
  expect(await asked('slow', 9_900)).toBe(true)
  expect(await asked('slow', 9_900)).toBe(false)
  for (let i = 0; i < 100; i++) await asked('slow', 9_900, { inHaste: false })
  expect(await asked('slow', 100)).toBe(false)
  pass(600_000)
  expect(await asked('slow', 100)).toBe(true)
})

test('a host that fails late owes as much as one that answers late', async () => {
  let nowMs = 0
  const pace = new HostPace(() => nowMs)
  const fail = async (): Promise<never> => {
    nowMs += 10_000
    throw new Error('no answer')
  }
  await expect(pace.ask('silent', true, fail)).rejects.toThrow('no answer')
  await expect(pace.ask('silent', true, fail)).rejects.toThrow(SlowHostError)
})

test('any number of hosts of one domain have half of a place together, and the hosts of others their own', async () => {
  const { asked, pass, nowMs } = hosts()
  let heldMs = 0
  for (let i = 0; nowMs() < 3_600_000; i++) {
    if (await asked(`h${i}.evil.example:8443`, 9_900)) heldMs += 9_900
    else pass(1_000)
    expect(await asked('good.example', 100)).toBe(true)
  }
  expect(heldMs / nowMs()).toBeGreaterThan(0.4)
  expect(heldMs / nowMs()).toBeLessThan(0.6)
  expect(await asked('new.evil.example', 100)).toBe(false)
  expect(await asked('new.evil.example', 9_900, { inHaste: false })).toBe(true)
  pass(360_000)
  expect(await asked('new.evil.example', 100)).toBe(true)
})

test('where nobody waits for the place an owner has one question at a time, and others have theirs; in haste it is asked as ever', async () => {
  const pace = new HostPace(() => 0)
  const { promise: silence, resolve: end } = Promise.withResolvers<void>()
  const silent = pace.ask('one.evil.example', false, () => silence)
  await expect(pace.ask('two.evil.example', false, async () => 1)).rejects.toThrow(BusyOwnerError)
  expect(await pace.ask('two.evil.example', true, async () => 2)).toBe(2)
  expect(await pace.ask('good.example', false, async () => 3)).toBe(3)
  end()
  await silent
  await expect(pace.ask('one.evil.example', false, () => Promise.reject(new Error('500')))).rejects.toThrow('500')
  expect(await pace.ask('two.evil.example', false, async () => 4)).toBe(4)
})

test('four hosts that never answer leave the others of their owner as they are, however often they are asked', async () => {
  const { asked, pass, nowMs } = hosts()
  let silences = 0
  while (nowMs() < 3_600_000) {
    for (const i of [1, 2, 3, 4]) {
      if (await asked(`silent${i}.host.example`, 10_000)) silences++
      pass(1_000)
      expect(await asked('good.host.example', 500)).toBe(true)
    }
  }
  expect(silences).toBeGreaterThan(100)
})

test('what was waited for before a host was asked, or after its answer, nobody owes, nor what was answered without it', async () => {
  let nowMs = 0
  const pace = new HostPace(() => nowMs)
  const asked = (beforeMs: number, itsMs: number, afterMs: number): Promise<void> =>
    pace.askInTurn('good', true, async (watch) => {
      nowMs += beforeMs
      if (itsMs >= 0) watch.asked()
      nowMs += Math.max(0, itsMs)
      if (itsMs >= 0) watch.answered()
      nowMs += afterMs
    })
  for (let i = 0; i < 100; i++) await asked(60_000, 900, 60_000)
  for (let i = 0; i < 100; i++) await asked(0, -1, 60_000)
  await asked(0, 9_900, 0)
  await expect(asked(0, 0, 0)).rejects.toThrow(SlowHostError)
})

/** Where nobody waits: asks hosts that never answer, and says whether they were asked. */
function silentHosts() {
  let nowMs = 0
  const pace = new HostPace(() => nowMs)
  const asked = async (host: string): Promise<boolean> => {
    let wasAsked = false
    const silence = async (): Promise<never> => {
      wasAsked = true
      nowMs += 10_000
      throw new Error('no answer')
    }
    await pace.ask(host, false, silence).catch(() => undefined)
    return wasAsked
  }
  return { pace, asked, pass: (ms: number) => void (nowMs += ms), nowMs: () => nowMs }
}

test('where nobody waits, a host that never answers has a fiftieth of a place, and all of its owner together an eighth; others have theirs', async () => {
  const { pace, asked, pass, nowMs } = silentHosts()
  const heldOf = async (host: (i: number) => string): Promise<number> => {
    const fromMs = nowMs()
    let heldMs = 0
    for (let i = 0; nowMs() - fromMs < 36_000_000; i++) {
      if (await asked(host(i))) heldMs += 10_000
      else pass(1_000)
      expect(await pace.ask('good.example', false, async () => 'good')).toBe('good')
    }
    return heldMs / (nowMs() - fromMs)
  }
  const ofOne = await heldOf(() => 'silent.example')
  expect(ofOne).toBeGreaterThan(0.015)
  expect(ofOne).toBeLessThan(0.03)
  const ofMany = await heldOf((i) => `h${i}.evil.example`)
  expect(ofMany).toBeGreaterThan(0.1)
  expect(ofMany).toBeLessThan(0.15)
})

test('where nobody waits, four hosts that never answer leave the others of their owner as they are; who is turned away is told for how long', async () => {
  const { pace, asked, pass, nowMs } = silentHosts()
  const good = (host: string) => pace.ask(host, false, async () => 'good')
  while (nowMs() < 3_600_000) {
    for (const i of [1, 2, 3, 4]) await asked(`silent${i}.host.example`)
    pass(60_000)
    expect(await good('good.host.example')).toBe('good')
  }
  while (await asked('silent1.host.example')) expect(await good('good.host.example')).toBe('good')
  const error = await good('silent1.host.example').catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(BusyOwnerError)
  pass((error as BusyOwnerError).retryAfterMs! - 1_000)
  await expect(good('silent1.host.example')).rejects.toThrow(BusyOwnerError)
  pass(1_001)
  expect(await good('silent1.host.example')).toBe('good')
  // It has made up for nothing, and is asked as long as it answers soon.
  for (let i = 0; i < 100; i++) expect(await good('silent1.host.example')).toBe('good')
})

test('where nobody waits, owners that answer just in time are asked two at a time, however many they are; others have their places meanwhile, and they too when they are in time', async () => {
  let nowMs = 0
  const pace = new HostPace(() => nowMs)
  const owners = ['one', 'two', 'three', 'four']
  const round = async (tookMs: number): Promise<string[]> => {
    const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
    const asked: string[] = []
    const questions = owners.map((name) =>
      pace
        .ask(`pds.${name}.example`, false, () => (asked.push(name), answered))
        .catch((error: unknown) => expect(error).toBeInstanceOf(BusyOwnerError)),
    )
    expect(await pace.ask('good.example.org', false, async () => 'good')).toBe('good')
    nowMs += tookMs
    answer()
    await Promise.all(questions)
    return asked
  }
  for (let i = 0; i < 3; i++) expect(await round(9_900)).toEqual(owners)
  for (let i = 0; i < 10; i++) expect(await round(9_900)).toEqual(['one', 'two'])
  // The others pay meanwhile, and have their turn now and then.
  let asked = 0
  for (let i = 0; i < 300; i++) asked += (await round(9_900)).length
  expect(asked / 300).toBeGreaterThan(2)
  expect(asked / 300).toBeLessThan(2.2)
  nowMs += 410_000
  for (let i = 0; i < 30; i++) expect(await round(900)).toEqual(owners)
})

test('where nobody waits, a host that answers late is asked as often as there is a place', async () => {
  const { asked } = hosts()
  for (let i = 0; i < 100; i++) expect(await asked('slow', 9_900, { inHaste: false })).toBe(true)
})
