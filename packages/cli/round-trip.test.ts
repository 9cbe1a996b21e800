import { expect, test } from 'vitest'
import { measureRoundTrip } from './round-trip.ts'

test.each([
  [[400, 10, 90], 10],
  [[300, 260, 270], 260],
])('of round trips of %j ms the quickest counts', async (tookMs, quickest) => {
  const clock = tookMs.flatMap((ms) => [0, ms])
  const { latencyMs } = await measureRoundTrip(
    async () => Date.now(),
    () => clock.shift()!,
  )
  expect(latencyMs).toBe(quickest)
  expect(clock).toEqual([])
})
