import { expect, test } from 'vitest'
import { NoRoomError } from '@sluice/atproto/slabs.ts'
import { RepoMemories, SHARE_BYTES, type RepoMemory } from './repo-memory.ts'

const signal = new AbortController().signal
const LIMIT = 16 * SHARE_BYTES
const MB = 1024 ** 2

test('no more repositories are begun than there are shares, and what is given back is used again', () => {
  const memories = new RepoMemories(LIMIT)
  const open = Array.from({ length: 16 }, () => memories.tryOpen()!)
  expect(memories.usedBytes).toBe(LIMIT)
  expect(memories.tryOpen()).toBeUndefined()
  open[0]![Symbol.dispose]()
  using again = memories.tryOpen()
  expect(again).toBeDefined()
})

test('one repository keeps a small part in memory, the rest goes to a file', () => {
  const memories = new RepoMemories(64 * SHARE_BYTES)
  using memory = memories.tryOpen()!
  expect(memory.mayKeep(4 * SHARE_BYTES)).toBe(true)
  expect(memory.mayKeep(4 * SHARE_BYTES + 1)).toBe(false)
  expect(memories.usedBytes).toBe(4 * SHARE_BYTES)
})

test('what the index takes is no room for blocks', async () => {
  const memories = new RepoMemories(64 * SHARE_BYTES)
  using memory = memories.tryOpen()!
  for (let shares = 1; shares < 30; shares++) {
    const blocks = memory.mayKeep(shares * SHARE_BYTES) ? shares : 4
    await memory.hold((blocks + shares) * SHARE_BYTES, signal)
  }
  expect(memory.mayKeep(4 * SHARE_BYTES + 1)).toBe(false)
  expect(memories.usedBytes).toBe((4 + 29) * SHARE_BYTES)
})

test('B2: however much slow hosts have sent, in blocks or in many small ones, every other place finds its share', async () => {
  const [places, slowHosts] = [256, 24]
  const memories = new RepoMemories(224 * MB, { waitMs: 1 })
  const slow = Array.from({ length: slowHosts }, () => memories.tryOpen()!)
  for (const memory of slow) for (let bytes = SHARE_BYTES; memory.mayKeep(bytes); bytes += SHARE_BYTES);
  const holdAll = async (memory: RepoMemory): Promise<void> => {
    for (let bytes = MB; bytes <= 20 * MB; bytes += MB) await memory.hold(bytes, signal)
  }
  await Promise.all(slow.map((memory) => holdAll(memory).catch(() => undefined)))
  expect(memories.usedBytes).toBeGreaterThan(80 * MB)
  const others = Array.from({ length: places - slowHosts }, () => memories.tryOpen())
  expect(others.filter((memory) => memory === undefined)).toEqual([])
})

test('B2: the blocks of many leave room for the index of one more', async () => {
  const memories = new RepoMemories(224 * MB)
  const [another, ...slow] = Array.from({ length: 25 }, () => memories.tryOpen()!)
  for (const memory of slow) for (let bytes = SHARE_BYTES; memory.mayKeep(bytes); bytes += SHARE_BYTES);
  expect(another!.mayKeep(14 * MB)).toBe(false)
  await another!.hold(5 * MB, signal)
  // The one that may wait is another one still.
  await slow[0]!.hold(100 * MB, signal)
})

test('one waits for what the others give back, a second one gives up instead: two could wait for each other', async () => {
  const memories = new RepoMemories(LIMIT)
  const [one, two, ...others] = Array.from({ length: 16 }, () => memories.tryOpen()!)
  let isGranted = false
  const granted = one!.hold(3 * SHARE_BYTES, signal).then(() => (isGranted = true))
  await expect(two!.hold(2 * SHARE_BYTES, signal)).rejects.toThrow(NoRoomError)
  others[0]![Symbol.dispose]()
  await Promise.resolve()
  expect(isGranted).toBe(false)
  others[1]![Symbol.dispose]()
  await granted
  expect(memories.usedBytes).toBe(LIMIT)
})

test('who gets nothing in time gives up, so that others may begin', async () => {
  const memories = new RepoMemories(LIMIT, { waitMs: 20 })
  const [one, another] = Array.from({ length: 15 }, () => memories.tryOpen()!)
  const given = one!.hold(4 * SHARE_BYTES, signal)
  expect(memories.tryOpen(), 'there is room, and somebody waits for more').toBeUndefined()
  await expect(given).rejects.toThrow(NoRoomError)
  const next = memories.tryOpen()
  expect(next).toBeDefined()
  one![Symbol.dispose]()
  another![Symbol.dispose]()
  await next!.hold(3 * SHARE_BYTES, signal)
  expect(memories.usedBytes).toBe(LIMIT)
})

test('an abort while it waits is an abort', async () => {
  const memories = new RepoMemories(LIMIT)
  const [one] = Array.from({ length: 16 }, () => memories.tryOpen()!)
  await expect(one!.hold(2 * SHARE_BYTES, AbortSignal.abort(new Error('stop')))).rejects.toThrow('stop')
})

test('who needs more than there is gets nearly all of it; with the rest others go on', async () => {
  const memories = new RepoMemories(LIMIT)
  const [one, two] = [memories.tryOpen()!, memories.tryOpen()!]
  await one.hold(10 * LIMIT, signal)
  expect(memories.usedBytes).toBe(LIMIT)
  expect(memories.tryOpen()).toBeUndefined()
  two[Symbol.dispose]()
  expect(memories.tryOpen()).toBeDefined()
  one[Symbol.dispose]()
  expect(memories.usedBytes).toBe(SHARE_BYTES)
})
