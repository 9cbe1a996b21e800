import { CrowdedError, Throttle } from '@sluice/atproto/throttle.ts'
import { NotXrpcError, RateLimitedError } from '@sluice/atproto/xrpc.ts'
import { expect, test } from 'vitest'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { consequenceOf, failureOf, NoDocumentError, type Consequence } from './failures.ts'
import { isPassedOver } from './passed-over.ts'

const LIMITS = { retryMs: 1_000, retryMaxMs: 60_000 }
const ENTRY: BackfillEvent = { did: 'did:plc:a', host: 'pds.example', rev: '' }
const HOUR_MS = 3_600_000

function consequence(error: unknown, entry: BackfillEvent = ENTRY, random = 0): Consequence {
  return consequenceOf(entry, failureOf(error), LIMITS, { random: () => random })
}

/** Fails again and again; how often until it is given up. */
function triesOf(error: unknown, most = 1_000): number {
  let entry = ENTRY
  for (let tries = 1; tries <= most; tries++) {
    const verdict = consequence(error, entry)
    if (verdict.act === 'bury') return tries
    entry = verdict.entry
  }
  return Infinity
}

test('an outage never uses up the tries of a repository', () => {
  expect(triesOf(new TransientError('ECONNRESET'))).toBe(Infinity)
})

test.each([
  ['car-truncated', 8],
  ['mst-incomplete', 8],
  ['export-bad-signature', 5],
  ['car-wrong-hash', 5],
  ['export-stale', 5],
  ['export-overtaken', 14],
  ['identity-missing', 5],
  ['not-implemented', 14],
  ['http-private-address', 3],
  ['car-too-large', 3],
])('%s is given up after %i tries, with its own reason', (reason, tries) => {
  const error = new RefusedError(reason, 'detail')
  expect(triesOf(error)).toBe(tries)
  const { class: failure } = failureOf(error)
  expect(consequence(error, { ...ENTRY, failure, attempts: tries - 1 })).toMatchObject({
    act: 'bury',
    reason,
    attempts: tries,
  })
})

test('what somebody says in place of a host is waited out for days, and not for ever', () => {
  const error = new NotXrpcError('getRepo at pds.example: 404')
  expect(triesOf(error)).toBe(14)
  const daily = { retryMs: 30_000, retryMaxMs: 6 * HOUR_MS }
  let waitedMs = 0
  let entry = ENTRY
  for (let verdict = consequenceOf(entry, failureOf(error), daily, { random: () => 0 }); verdict.act === 'retry';) {
    waitedMs += verdict.delayMs
    entry = verdict.entry
    verdict = consequenceOf(entry, failureOf(error), daily, { random: () => 0 })
  }
  expect(waitedMs).toBeGreaterThan(48 * HOUR_MS)
  expect(consequenceOf(entry, failureOf(error), daily)).toMatchObject({ act: 'bury', reason: 'not-xrpc' })
  // Its outage does not use up the tries of a repository that is broken by itself, and the other way round.
  expect(consequence(new RefusedError('car-wrong-hash', ''), entry)).toMatchObject({
    act: 'retry',
    entry: { attempts: 1 },
  })
})

test('and for four days where it is seldom asked for, as one of a thousand at its host; not for one failure before and one after', () => {
  const failure = failureOf(new NotXrpcError('getRepo at pds.example: 403'))
  let nowMs = 0
  let entry = ENTRY
  const fail = (afterHours: number): Consequence['act'] => {
    nowMs += afterHours * HOUR_MS
    const verdict = consequenceOf(entry, failure, LIMITS, { now: () => nowMs })
    if (verdict.act === 'retry') entry = verdict.entry
    return verdict.act
  }
  expect([0, 97, 1].map(fail)).toEqual(['retry', 'retry', 'bury'])
  entry = ENTRY
  expect([0, 40, 40, 15].map(fail)).toEqual(['retry', 'retry', 'retry', 'retry'])
  // Failures of other kinds between them change nothing.
  for (const between of [new RefusedError('car-wrong-hash', ''), new TransientError('503')]) {
    const other = consequenceOf(entry, failureOf(between), LIMITS)
    expect(other).toMatchObject({ act: 'retry', entry: { attempts: 1 } })
    entry = (other as { entry: BackfillEvent }).entry
  }
  expect(fail(2)).toBe('bury')
})

test('a 429 that counts is given up after three, with its own reason', () => {
  const error = new RateLimitedError('getRepo at pds.example: 429', { retryAfterMs: 60_000 })
  expect(triesOf(error)).toBe(3)
  expect(consequence(error)).toMatchObject({ act: 'retry', entry: { failure: 'limited', attempts: 1 } })
  expect(consequence(error, { ...ENTRY, failure: 'limited', attempts: 2 })).toMatchObject({ reason: 'rate-limited' })
})

test('an error of ours is a bug, and is not tried for ever', () => {
  expect(triesOf(new TypeError('x is undefined'))).toBe(3)
})

test('each class has a count of its own: an outage does not add up with other failures', () => {
  const verdict = consequence(new RefusedError('car-wrong-hash', ''), {
    ...ENTRY,
    attempts: 100,
    failure: 'unavailable',
  })
  expect(verdict).toMatchObject({ act: 'retry', entry: { attempts: 1, failure: 'invalid' } })
})

/** Fails with these errors in turn, again and again; how often until it is given up. */
function triesOfAll(errors: readonly unknown[], most = 1_000): number {
  let entry = ENTRY
  for (let tries = 1; tries <= most; tries++) {
    const verdict = consequence(errors[(tries - 1) % errors.length], entry)
    if (verdict.act === 'bury') return tries
    entry = verdict.entry
  }
  return Infinity
}

test('a repository whose host fails in another way each time is given up as soon as its tries of one kind are used up', () => {
  const [wrong, refused, cut] = ['car-wrong-hash', 'xrpc-refused', 'car-truncated'].map((r) => new RefusedError(r, ''))
  const down = new TransientError('503')
  expect(triesOfAll([wrong, refused])).toBe(9)
  expect(triesOfAll([wrong, refused, cut])).toBe(13)
  // Outages between them cost nothing, and forgive nothing.
  expect(triesOfAll([down, wrong])).toBe(10)
  expect(triesOfAll([down, down, down])).toBe(Infinity)
})

test('nor does its wait become short again by that', () => {
  let entry = ENTRY
  const waits: number[] = []
  for (const error of [new TransientError('503'), new NoDocumentError('503'), new TransientError('503')]) {
    const verdict = consequence(error, entry)
    if (verdict.act === 'bury') throw new Error('given up')
    waits.push(verdict.delayMs)
    entry = verdict.entry
  }
  expect(waits).toEqual([1_000, 1_000, 2_000])
  expect(entry).toMatchObject({ failure: 'unavailable', attempts: 2, earlier: { 'no-document': 1 } })
})

test('what other programs write there stops nobody', () => {
  for (const earlier of [null, 7, 'x', { invalid: 'many' }, { invalid: -5 }, { invalid: 1e300 }, [1]]) {
    const strange = { ...ENTRY, attempts: 1, failure: 'unavailable', earlier } as unknown as BackfillEvent
    expect(consequence(new RefusedError('car-wrong-hash', ''), strange)).toMatchObject({ entry: { attempts: 1 } })
  }
})

test('waits double, are stretched by up to a half, and end at the longest', () => {
  const wait = (attempts: number, random: number): number => {
    const verdict = consequence(new TransientError('x'), { ...ENTRY, attempts, failure: 'unavailable' }, random)
    return verdict.act === 'retry' ? verdict.delayMs : Number.NaN
  }
  expect([0, 1, 2, 3].map((attempts) => wait(attempts, 0))).toEqual([1_000, 2_000, 4_000, 8_000])
  expect(wait(0, 1)).toBe(1_500)
  expect(wait(1_000, 0)).toBe(60_000)
})

test('an export that live commits have overtaken is fetched again at once: what they wait for is not to wait for minutes', () => {
  const failure = failureOf(new RefusedError('export-overtaken', ''))
  expect(consequenceOf(ENTRY, failure, { retryMs: 30_000, retryMaxMs: 3_600_000 }, { random: () => 0 })).toMatchObject({
    delayMs: 1_000,
  })
})

test('what a host disabled for new repositories is asked again after 12 hours or more, and what it asks for is kept', () => {
  expect(consequence(new RefusedError('not-implemented', ''))).toMatchObject({ delayMs: 12 * HOUR_MS })
  expect(consequence(new TransientError('x', { retryAfterMs: 7 * HOUR_MS }))).toMatchObject({ delayMs: 7 * HOUR_MS })
})

/** What a throttle throws whose queue is full. */
async function turnedAway(): Promise<unknown> {
  const error = await new Throttle({ name: 'test', concurrency: 1, perSecond: 1, waiting: 0 }).run(async () => undefined).catch((thrown: unknown) => thrown) // prettier-ignore
  expect(error).toBeInstanceOf(CrowdedError)
  return error
}

test('who is turned away is asked again within seconds, however often, and keeps the failures that it had', async () => {
  const error = await turnedAway()
  expect(failureOf(error).class).toBe('crowded')
  for (const entry of [
    ENTRY,
    { ...ENTRY, attempts: 4, failure: 'identity' },
    { ...ENTRY, attempts: 100, failure: 'crowded' },
  ]) {
    expect(consequence(error, entry)).toEqual({ act: 'retry', delayMs: 10_000, entry })
    expect(consequence(error, entry, 1)).toMatchObject({ delayMs: 15_000 })
  }
})

test('a did:web that only a host lists is passed over in the end, though it fails otherwise each time', () => {
  const failures = [new NoDocumentError('503'), new TransientError('503')].map(failureOf)
  let entry: BackfillEvent = { ...ENTRY, did: 'did:web:a.example', reason: 'listed' }
  let tries = 0
  for (; tries < 1_000; tries++) {
    const failure = failures[tries % 2]!
    const verdict = consequenceOf(entry, failure, LIMITS)
    if (isPassedOver(entry, failure.class, verdict)) break
    entry = (verdict as Extract<Consequence, { act: 'retry' }>).entry
  }
  expect(tries).toBeLessThan(50)
})

test.each([
  ['no-document', 7, false],
  ['no-document', 8, true],
  ['unavailable', 15, false],
  ['unavailable', 16, true],
] as const)(
  'a did:web that only a host lists and that failed as %s %i times in a row is passed over: %s',
  (failed, attempts, isOver) => {
    const entry: BackfillEvent = { ...ENTRY, did: 'did:web:a.example', reason: 'listed' }
    const again = { act: 'retry', delayMs: 1, entry: { ...entry, failure: failed, attempts } } as const
    expect(isPassedOver(entry, failed, again)).toBe(isOver)
    expect(isPassedOver({ ...entry, rev: '3kabcdefghijk' }, failed, again)).toBe(false)
    expect(isPassedOver({ ...entry, reason: 'requested' }, failed, again)).toBe(false)
    expect(isPassedOver({ ...entry, did: 'did:plc:a' }, failed, again)).toBe(false)
  },
)

test.each([
  [39, false],
  [40, true],
])('one that failed %i times in all, in another way each time, is passed over: %s', (failures, isOver) => {
  const entry: BackfillEvent = { ...ENTRY, did: 'did:web:a.example', reason: 'listed' }
  const again = { act: 'retry', delayMs: 1, entry: { ...entry, failure: 'limited', attempts: 1, failures } } as const
  expect(isPassedOver(entry, 'limited', again)).toBe(isOver)
})

test('a fault of ours is seen, whoever made the account up', () => {
  const entry: BackfillEvent = { ...ENTRY, did: 'did:web:a.example', reason: 'listed' }
  const failure = failureOf(new TypeError('x is undefined'))
  expect(failure.class).toBe('bug')
  const bury = { act: 'bury', reason: 'bug', detail: 'x', attempts: 3 } as const
  expect(isPassedOver(entry, failure.class, bury)).toBe(false)
  expect(isPassedOver(entry, 'identity', bury)).toBe(true)
})
