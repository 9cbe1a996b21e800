import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { soak } from './testing/soak.ts'

/** For a real soak: `EVENTS=1000000`. */
const EVENTS = Number(process.env.EVENTS ?? 48_000)
const ROUNDS = 12

test('a consumer that goes through load, cuts and neighbours keeps nothing of them', { timeout: 600_000 }, async () => {
  await using server = await startRedis()
  const rounds = await soak({ url: server.url(), rounds: ROUNDS, events: Math.ceil(EVENTS / ROUNDS) })
  for (const { cuts, acked, troubles, heldEntries } of rounds) {
    expect(cuts).toBeGreaterThan(0)
    expect(troubles).toBeGreaterThan(0)
    expect(acked).toBeGreaterThanOrEqual(EVENTS / ROUNDS)
    expect(heldEntries).toBe(0)
  }
  // The first two rounds fill caches: compiled code, shapes, buffers of the connections.
  const [, , early] = rounds
  const last = rounds.at(-1)!
  const detail = rounds.map(({ keptBytes }) => `${(keptBytes / 1e6).toFixed(1)} MB`).join(' → ')
  expect(last.listeners, 'listeners of the signal').toBe(early!.listeners)
  // Of the last two rounds the smaller: what a cut has left in the air when a round ends is gone after the next, and a
  // leak is not.
  const late = Math.min(...rounds.slice(-2).map(({ keptBytes }) => keptBytes))
  // At the end of a round up to 2 MB of the last large answers may or may not be held, as long as the connections live.
  // 80 bytes an entry would be more, or 4 in a real soak.
  expect(late - early!.keptBytes, detail).toBeLessThan(3_000_000)
})
