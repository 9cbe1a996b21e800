import { expect, test } from 'vitest'
import { isAbort } from './errors.ts'
import { KeyedQueue } from './keyed-queue.ts'

const alive = new AbortController().signal
const settled = () => new Promise((resolve) => setImmediate(resolve))

/** Work that begins, waits to be finished by name, and ends. */
function stage() {
  const log: string[] = []
  const gates = new Map<string, PromiseWithResolvers<void>>()
  const work = (name: string) => async () => {
    log.push(`+${name}`)
    const gate = Promise.withResolvers<void>()
    gates.set(name, gate)
    await gate.promise
    log.push(`-${name}`)
  }
  const finish = async (name: string) => {
    gates.get(name)!.resolve()
    await settled()
  }
  return { log, work, finish, gates }
}

test('work of one key runs in order, one at a time; other keys do not wait for it', async () => {
  const { log, work, finish } = stage()
  const queue = new KeyedQueue({ concurrency: 10, capacity: 100 })
  for (const name of ['a1', 'a2', 'b1', 'a3']) await queue.push(name[0]!, work(name), alive)
  expect(log).toEqual(['+a1', '+b1'])
  await finish('a1')
  await finish('b1')
  await finish('a2')
  expect(log).toEqual(['+a1', '+b1', '-a1', '+a2', '-b1', '-a2', '+a3'])
  await finish('a3')
  await queue.drained()
  expect([queue.size, queue.keys]).toEqual([0, 0])
})

test('no more keys at once than the limit, and a busy key does not hold up the others', async () => {
  const { log, work, finish } = stage()
  const queue = new KeyedQueue({ concurrency: 1, capacity: 100 })
  for (const name of ['a1', 'a2', 'b1', 'c1']) await queue.push(name[0]!, work(name), alive)
  for (const name of ['a1', 'b1', 'c1', 'a2']) await finish(name)
  expect(log.filter((entry) => entry.startsWith('+'))).toEqual(['+a1', '+b1', '+c1', '+a2'])
  await queue.drained()
})

test('push waits for room, in order, and who gives up leaves no trace', async () => {
  const { log, work, finish } = stage()
  const queue = new KeyedQueue({ concurrency: 5, capacity: 2 })
  await queue.push('a', work('a'), alive)
  await queue.push('b', work('b'), alive)
  const abort = new AbortController()
  const givenUp = queue.push('c', work('c'), abort.signal).catch((error: unknown) => error)
  void queue.push('d', work('d'), alive)
  void queue.push('e', work('e'), alive)
  await settled()
  expect([log, queue.size]).toEqual([['+a', '+b'], 2])
  abort.abort()
  expect(isAbort(await givenUp)).toBe(true)
  await finish('a')
  expect([log, queue.size]).toEqual([['+a', '+b', '-a', '+d'], 2])
  for (const name of ['b', 'd', 'e']) await finish(name)
  await queue.drained()
  expect(log).not.toContain('+c')
})

test('work that rejects stops the queue: running work ends, queued work is dropped, everybody is told', async () => {
  const { log, work, finish } = stage()
  const queue = new KeyedQueue({ concurrency: 2, capacity: 4 })
  const bug = new Error('a bug')
  const gate = Promise.withResolvers<void>()
  await queue.push('a', () => gate.promise, alive)
  await queue.push('b', work('b'), alive)
  await queue.push('a', work('behind a'), alive)
  await queue.push('c', work('c'), alive)
  const waiting = queue.push('d', work('d'), alive).catch((error: unknown) => error)
  const drained = queue.drained().catch((error: unknown) => error)
  gate.reject(bug)
  expect(await waiting).toBe(bug)
  await expect(queue.push('e', work('e'), alive)).rejects.toBe(bug)
  await settled()
  expect([log, queue.size]).toEqual([['+b'], 1])
  await finish('b')
  expect(await drained).toBe(bug)
  expect([log, queue.size, queue.keys]).toEqual([['+b', '-b'], 0, 0])
})

test('many keys: everything runs once, in its order, within the limits, and no key is kept', async () => {
  const queue = new KeyedQueue({ concurrency: 7, capacity: 50 })
  const done = new Map<string, number[]>()
  const active = new Set<string>()
  const peak = { active: 0, size: 0 }
  for (let i = 0; i < 3000; i++) {
    const key = `key ${(i * 7919) % 101}`
    await queue.push(
      key,
      async () => {
        expect(active.has(key)).toBe(false)
        active.add(key)
        peak.active = Math.max(peak.active, active.size)
        if (i % 3 === 0) await settled()
        done.set(key, [...(done.get(key) ?? []), i])
        active.delete(key)
      },
      alive,
    )
    peak.size = Math.max(peak.size, queue.size)
  }
  await queue.drained()
  expect(peak).toEqual({ active: 7, size: 50 })
  expect([...done.values()].flat()).toHaveLength(3000)
  for (const order of done.values()) expect(order).toEqual(order.toSorted((a, b) => a - b))
  expect([queue.size, queue.keys]).toEqual([0, 0])
})
