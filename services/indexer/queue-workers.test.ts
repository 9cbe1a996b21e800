import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from 'vitest'
import { runWorkers, type WorkersOptions } from './queue-workers.ts'

type Queue = 'new' | 'failing'

/** Queues of names, and who is worked on until told otherwise. */
function stage(waiting: Record<Queue, string[]>) {
  const open = new Map<string, () => void>()
  let looking = 0
  const seen = { looking: 0, looks: 0 }
  const options: WorkersOptions<Queue, string> = {
    workers: { new: 3, failing: 1 },
    claimMs: 1_000,
    pollMs: 1,
    async claim({ queue, limit }) {
      seen.looks++
      seen.looking = Math.max(seen.looking, ++looking)
      await new Promise((resolve) => setImmediate(resolve))
      looking--
      return waiting[queue].splice(0, limit)
    },
    async work(name, queue) {
      const { promise, resolve } = Promise.withResolvers<void>()
      open.set(`${name} of ${queue}`, resolve)
      await promise
      open.delete(`${name} of ${queue}`)
    },
  }
  return { options, open, seen, underWay: () => [...open.keys()].sort() }
}

test('so many of each queue are worked on, and what waits in one keeps nobody out of another', async () => {
  const { options, open, underWay } = stage({ new: ['a', 'b', 'c', 'd'], failing: ['e', 'f'] })
  const stop = new AbortController()
  const ended = runWorkers(options, stop.signal)
  await expect.poll(underWay).toEqual(['a of new', 'b of new', 'c of new', 'e of failing'])
  open.get('e of failing')!()
  await expect.poll(underWay).toEqual(['a of new', 'b of new', 'c of new', 'f of failing'])
  open.get('b of new')!()
  await expect.poll(underWay).toEqual(['a of new', 'c of new', 'd of new', 'f of failing'])
  stop.abort()
  for (const end of open.values()) end()
  await ended
})

test('workers look for what is due one after the other, so that they take one connection', async () => {
  const { options, seen } = stage({ new: [], failing: [] })
  const stop = new AbortController()
  const ended = runWorkers(options, stop.signal)
  await expect.poll(() => seen.looks).toBeGreaterThan(20)
  stop.abort()
  await ended
  expect(seen.looking).toBe(1)
})

test('the first failure ends them all, and nobody looks after it', async () => {
  const { options } = stage({ new: [], failing: [] })
  let looks = 0
  const claim = async (): Promise<never> => {
    looks++
    throw new TransientError('PostgreSQL is away')
  }
  await expect(runWorkers({ ...options, claim }, new AbortController().signal)).rejects.toThrow('PostgreSQL is away')
  expect(looks).toBe(1)
})
