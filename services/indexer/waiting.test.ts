import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Readiness } from '@sluice/runtime/readiness.ts'
import type { YieldTurn } from '@sluice/streams/consumer.ts'
import { expect, test } from 'vitest'
import { waitOut, type Outages } from './waiting.ts'

const { signal } = new AbortController()
/** Nobody takes turns with us. */
const inPlace: YieldTurn = async (wait) => wait()

function surroundings(): Outages & { count: () => number } {
  let count = 0
  const log = createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] })
  const retries = { inc: (by: number) => void (count += by) }
  return { log, readiness: new Readiness(), retries, reasons: new Map(), count: () => count }
}

/** Fails until it is let through, then ends so. */
function stuck(reason: string, end: () => Promise<string>): { act: () => Promise<string>; let: () => void } {
  let isLet = false
  const act = async (): Promise<string> => {
    if (!isLet) throw new TransientError(reason)
    return await end()
  }
  return { act, let: () => void (isLet = true) }
}

test('a lane that gets through does not say that the others do: ready is when none waits any more', async () => {
  const outages = surroundings()
  const { readiness } = outages
  const [one, other] = ['disk full', 'locked'].map((reason) => stuck(reason, async () => Promise.resolve('done')))
  const waits = [one, other].map(async (lane) => waitOut(outages, signal, lane!.act, inPlace))
  await expect.poll(outages.count).toBeGreaterThan(2)
  expect(readiness.ready).toBe(false)
  one!.let()
  expect(await waits[0]).toBe('done')
  expect(readiness.reasons).toEqual(['postgres: locked'])
  other!.let()
  expect(await waits[1]).toBe('done')
  expect(readiness.ready).toBe(true)
})

test('a batch that is refused after an outage waits no more', async () => {
  const outages = surroundings()
  const lane = stuck('starting', async () => Promise.reject(new RefusedError('constraint', 'x')))
  const refused = expect(waitOut(outages, signal, lane.act, inPlace)).rejects.toThrow('constraint')
  await expect.poll(outages.count).toBeGreaterThan(0)
  expect(outages.readiness.ready).toBe(false)
  lane.let()
  await refused
  expect(outages.readiness.ready).toBe(true)
})
