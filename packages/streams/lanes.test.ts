import { expect, test } from 'vitest'
import { Lanes, type Held } from './lanes.ts'
import { laneOf } from './spread.ts'
import { Turns } from './turns.ts'

const LIMITS = { batchEvents: 3, batchBytes: 1_000, heldEntries: 5, heldBytes: 10_000, lingerMs: 0 }
const keyOfLane = (lane: number): string =>
  Array.from({ length: 100 }, (_, i) => `key ${i}`).find((key) => laneOf(key, 2) === lane)!
const KEYS = [keyOfLane(0), keyOfLane(1)] as const

let last = 0
function held(key: string, bytes = 10): Held<object> {
  return { id: `${++last}-0`, event: {}, key, fields: {}, bytes, deliveries: 1, isolated: false }
}

/** The sizes of the batches that a lane has handed out so far. */
function watch(lanes: Lanes<object>, lane: number): number[] {
  const sizes: number[] = []
  void (async () => {
    for await (const batch of lanes.batches(lane)) sizes.push(batch.length)
  })()
  return sizes
}

const turns = () => new Promise((resolve) => setImmediate(resolve))

test('while more is to come a lane waits for a full batch, and hands out what it has at the end of the stream', async () => {
  const lanes = new Lanes<object>(2, { ...LIMITS, heldEntries: 100 })
  const sizes = watch(lanes, 0)
  lanes.moreToCome = true
  for (let i = 0; i < 2; i++) lanes.add(held(KEYS[0]))
  await turns()
  expect(sizes).toEqual([])
  for (let i = 0; i < 2; i++) lanes.add(held(KEYS[0]))
  await turns()
  expect(sizes).toEqual([3])
  lanes.moreToCome = false
  await turns()
  expect(sizes).toEqual([3, 1])
  lanes.add(held(KEYS[0]))
  await turns()
  expect(sizes).toEqual([3, 1, 1])
  lanes.close()
})

test('a batch that is full by its bytes does not wait', async () => {
  const lanes = new Lanes<object>(2, LIMITS)
  const sizes = watch(lanes, 0)
  lanes.moreToCome = true
  lanes.add(held(KEYS[0], 1_000))
  await turns()
  expect(sizes).toEqual([1])
  lanes.close()
})

test('nobody waits for more when no more can be held', async () => {
  const lanes = new Lanes<object>(2, { ...LIMITS, batchEvents: 100 })
  const sizes = [watch(lanes, 0), watch(lanes, 1)]
  lanes.moreToCome = true
  lanes.add(held(KEYS[0]))
  for (let i = 0; i < 3; i++) lanes.add(held(KEYS[1]))
  await turns()
  expect(sizes).toEqual([[], []])
  lanes.add(held(KEYS[1]))
  await turns()
  expect(sizes).toEqual([[1], [4]])
  lanes.close()
})

test('a lane waits for its turn before it takes a batch, keeps it until that is worked off, and takes none once it is closed', async () => {
  const lane = new Turns()
  const lanes = new Lanes<object>(2, LIMITS, undefined, () => lane.enter('exclusive'))
  const before = await lane.enter('exclusive')
  lanes.add(held(KEYS[0]))
  const batches = lanes.batches(0)
  const first = batches.next()
  await turns()
  lanes.add(held(KEYS[0]))
  before[Symbol.dispose]()
  expect((await first).value).toHaveLength(2)
  const other = lane.enter('exclusive')
  expect(await Promise.race([other, turns().then(() => 'waits')])).toBe('waits')
  lanes.add(held(KEYS[0]))
  const second = batches.next()
  lanes.close()
  ;(await other)[Symbol.dispose]()
  expect(await second).toEqual({ done: true, value: undefined })
  expect(lanes.heldEntries).toBe(3)
  ;(await lane.enter('exclusive'))[Symbol.dispose]()
})

test('an entry that may be what ends the process gets a batch of its own, wherever it stands', async () => {
  const lanes = new Lanes<object>(2, LIMITS)
  for (const isolated of [false, true, false, true]) lanes.add({ ...held(KEYS[0]), isolated })
  const sizes = watch(lanes, 0)
  await turns()
  expect(sizes).toEqual([1, 1, 1, 1])
  lanes.close()
})

test('a batch has no more bytes than it may, but for a single entry that is larger', async () => {
  const lanes = new Lanes<object>(2, { ...LIMITS, batchEvents: 10 })
  for (const bytes of [600, 400, 1, 2_000]) lanes.add(held(KEYS[0], bytes))
  const sizes = watch(lanes, 0)
  await turns()
  expect(sizes).toEqual([2, 1, 1])
  lanes.close()
})

test('the bytes of what was handed out do not make the next batch full', async () => {
  const lanes = new Lanes<object>(2, LIMITS)
  const sizes = watch(lanes, 0)
  lanes.moreToCome = true
  lanes.add(held(KEYS[0], 1_000))
  await turns()
  lanes.add(held(KEYS[0]))
  await turns()
  expect(sizes).toEqual([1])
  lanes.close()
})
