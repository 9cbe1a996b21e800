/**
 * Every frame that was sent is appended, filtered or refused by a named reason, once, whatever dies in between:
 * connections in the middle of a frame, the ingester before and after an append and anywhere. What must come out is
 * known from what was sent.
 */
import { pathOf } from '@sluice/events/stream-event.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { random } from '@sluice/atproto/testing/random.ts'
import { Traffic } from './testing/traffic.ts'
import { caughtUp, envOf, test, WAIT, type Tools } from './testing/run.ts'

const FRAMES = Number(process.env.EVENTS ?? 2_000)
const SEEDS = (process.env.SEEDS ?? 'accounting').split(',')
/** Connections that each life of the ingester loses: its backoff makes more of them slow. */
const CUTS = 2

test.for(SEEDS)('every frame is accounted for, seed %s', async (seed, { tools, redisUrl }) => {
  const draw = random(seed)
  let cuts = 0
  const cutAfter = () => (cuts++ < CUTS ? 50 + draw.below(FRAMES / 10) : Infinity)
  await using relay = await FakeRelay.start({ cutAfter })
  const traffic = new Traffic(relay, seed, 25)
  for (let i = 0; i < FRAMES; i++) traffic.next()
  // The last has a position, and so the cursor stands behind everything.
  relay.message('#identity', { did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', time: '2026-01-01T00:00:00.000Z' })
  const env = { ...envOf(relay, redisUrl), INGESTER_BATCH_SIZE: '25', INGESTER_VERIFY_THREADS: '2' }

  for (const point of ['append.after@9', 'append.before@7', 'append.after@5']) {
    relay.holds = true
    cuts = 0
    const daemon = await startDaemon({ role: 'ingester', env: { ...env, SLUICE_CRASH_POINTS: point } })
    relay.release()
    expect(await daemon.exited).toMatchObject({ signal: 'SIGKILL' })
    expect(daemon.logLines.at(-1)).toBe(`crash point ${point.split('@')[0]}`)
    await daemon[Symbol.asyncDispose]()
  }
  relay.holds = true
  const victim = await startDaemon({ role: 'ingester', env })
  relay.release()
  const before = Number(await tools.cursor(relay))
  await expect.poll(async () => Number(await tools.cursor(relay)), WAIT).toBeGreaterThan(before)
  await victim.kill()
  await victim[Symbol.asyncDispose]()

  relay.holds = false
  cuts = 0
  await using last = await startDaemon({ role: 'ingester', env })
  await caughtUp(tools, relay)
  await last.stop()

  expect(relay.cuts).toBeGreaterThan(2)
  const ledger = await tools.ledger(relay)
  const sent: Record<string, number> = { ...traffic.ledger, appended: traffic.ledger.appended! + 1 }
  expect(sum(ledger)).toBe(relay.frames)
  expect(sum(sent)).toBe(relay.frames)
  // A chain may be ahead of the cursor when the ingester dies: those frames are read again, and are duplicates then.
  let again = 0
  for (const [outcome, count] of Object.entries(sent)) {
    if (outcome === 'duplicate') continue
    if (!FOLLOWED.has(outcome)) expect([outcome, ledger[outcome]]).toEqual([outcome, count])
    expect([outcome, ledger[outcome]! <= count]).toEqual([outcome, true])
    again += count - ledger[outcome]!
  }
  expect(ledger.duplicate).toBe(sent.duplicate! + again)
  expect(again).toBeLessThan(FRAMES / 2)
  expect(await appended(tools)).toEqual(traffic.events)
  const asked = (await tools.requests()).map(({ did }) => did)
  expect(asked.length).toBeGreaterThan(0)
  expect(new Set(asked).size).toBe(asked.length)
})

/** Outcomes of commits that were true, and moved a chain. */
const FOLLOWED = new Set(['appended', 'filtered', 'resync', 'refused:op-bad-path'])

const sum = (counts: Record<string, number>): number => Object.values(counts).reduce((total, count) => total + count, 0)

/** By DID: the records that are in the stream, in order. */
async function appended(tools: Tools): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>()
  for (const event of await tools.events()) {
    if (!('rkey' in event)) continue
    const list = found.get(event.did) ?? []
    list.push(pathOf(event))
    found.set(event.did, list)
  }
  return found
}
