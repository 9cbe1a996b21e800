/** How much may wait for the answers of strangers, and that giving one up lasts no longer than its answer takes. */
import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { AccountBacklogs } from './account-backlogs.ts'

/** Of these one account may hold 100 bytes while it waits, and all together 400. */
const MEMORY_BYTES = 1_600
const [ANN, BOB] = ['did:web:ann.example', 'did:web:bob.example'] as const

/** What an account waits for, until `answer`. */
function waitFor(backlogs: AccountBacklogs, did: string) {
  const { promise, resolve } = Promise.withResolvers<string>()
  let ended: string | undefined
  const waiting = backlogs.wait(did, () => promise)
  waiting.then(
    (answer) => (ended = answer),
    (error: Error) => (ended = error.name),
  )
  const now = async (): Promise<string | undefined> => {
    await setImmediate()
    return ended
  }
  return { now, answer: () => resolve('answered') }
}

const GIVEN_UP = 'IdentityUnavailableError'

test('an account that holds a sixteenth is waited for, and one that holds more is not until its answer has come', async () => {
  const backlogs = new AccountBacklogs(MEMORY_BYTES)
  backlogs.enter(ANN, 60)
  backlogs.enter(ANN, 40)
  const first = waitFor(backlogs, ANN)
  expect(await first.now()).toBeUndefined()
  backlogs.enter(ANN, 1)
  expect(await first.now()).toBe(GIVEN_UP)
  backlogs.leave(ANN, 60, { isLeft: false })
  // The host is asked once, whoever waits for it.
  await expect(backlogs.wait(ANN, () => expect.fail('asked twice'))).rejects.toThrow(/is not waited for: 101 bytes/)
  first.answer()
  expect(await first.now()).toBe(GIVEN_UP)
  // Its other frames are still here.
  const next = waitFor(backlogs, ANN)
  next.answer()
  expect(await next.now()).toBe('answered')
})

test('all together hold no more than a quarter: who goes beyond is given up, and those who wait give their room back', async () => {
  const backlogs = new AccountBacklogs(MEMORY_BYTES)
  const dids = Array.from({ length: 6 }, (_, i) => `did:web:host${i}.example`)
  for (const did of dids) backlogs.enter(did, 80)
  const [first, second, third, fourth, fifth, sixth] = dids.map((did) => waitFor(backlogs, did))
  const all = async () => await Promise.all([first, second, third, fourth, fifth, sixth].map((one) => one!.now()))
  expect(await all()).toEqual([undefined, undefined, undefined, undefined, undefined, GIVEN_UP])
  first!.answer()
  expect(await first!.now()).toBe('answered')
  backlogs.leave(dids[0]!, 80, { isLeft: false })
  backlogs.enter(ANN, 80)
  const ann = waitFor(backlogs, ANN)
  backlogs.enter(BOB, 80)
  const bob = waitFor(backlogs, BOB)
  expect([await ann.now(), await bob.now()]).toEqual([undefined, GIVEN_UP])
})

test('what comes while an account waits counts too: it may be the one that holds too much with the others', async () => {
  const backlogs = new AccountBacklogs(MEMORY_BYTES)
  const dids = Array.from({ length: 5 }, (_, i) => `did:web:host${i}.example`)
  for (const did of dids) backlogs.enter(did, 80)
  const waiting = dids.map((did) => waitFor(backlogs, did))
  const all = async () => await Promise.all(waiting.map((one) => one.now()))
  expect(await all()).toEqual(Array(5).fill(undefined))
  backlogs.enter(dids[1]!, 1)
  expect(await all()).toEqual([undefined, GIVEN_UP, undefined, undefined, undefined])
})

test('V1 accounts of the directory are waited for, whatever they hold', async () => {
  const backlogs = new AccountBacklogs(MEMORY_BYTES)
  const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  backlogs.enter(did, 10 * MEMORY_BYTES)
  const waiting = waitFor(backlogs, did)
  expect(await waiting.now()).toBeUndefined()
  waiting.answer()
  expect(await waiting.now()).toBe('answered')
})

test('D1 once a frame was left all later ones of its account are, and none after them all have gone', () => {
  const backlogs = new AccountBacklogs(MEMORY_BYTES)
  for (const bytes of [1, 2, 3]) backlogs.enter(ANN, bytes)
  backlogs.leave(ANN, 1, { isLeft: true })
  expect(backlogs.isLeft(ANN)).toBe(true)
  backlogs.leave(ANN, 2, { isLeft: false })
  expect(backlogs.isLeft(ANN)).toBe(true)
  backlogs.leave(ANN, 3, { isLeft: true })
  backlogs.enter(ANN, 1)
  expect(backlogs.isLeft(ANN)).toBe(false)
})
