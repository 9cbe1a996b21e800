/**
 * A relay whose positions lie behind our cursor. Frames that do not rise are refused one by one; a thousand in a row
 * mean that the relay was set up anew. Of that the operator hears once, and again only when it has worked in between.
 */
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { caughtUp, test, WAIT } from './testing/run.ts'

const ROW = 1_000
const account = { did: testDid('alice'), time: '2026-01-01T00:00:00.000Z', active: true }

/** Frames at positions that the relay has sent before. */
function repeat(relay: FakeRelay, frames: number): void {
  for (let i = 0; i < frames; i++) relay.send(encodeFrame('#account', { ...account, seq: 1 }))
}

test('D10 a relay that repeats itself now and then is read on, however often it does', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  for (let i = 0; i < 3; i++) {
    relay.message('#account', account)
    repeat(relay, ROW - 1)
  }
  relay.message('#account', account)
  await tools.ingest(relay)
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toEqual({ appended: 4, 'refused:seq-not-rising': 3 * (ROW - 1) })
  expect(await tools.incidents()).toEqual([])
  expect(relay.cursors).toEqual([0])
})

test('D10 a relay that is set up anew a second time is told of a second time', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  for (let i = 0; i < 10; i++) relay.message('#account', account)
  await tools.ingest(relay, { INGESTER_FUTURE_CURSOR_RESET: 'true' })
  await caughtUp(tools, relay)
  for (const times of [1, 2]) {
    // The connection that begins anew would get all of this again.
    relay.refuses = true
    repeat(relay, ROW)
    await expect.poll(() => relay.connected, WAIT).toBe(0)
    await expect.poll(() => tools.incidents(), WAIT).toEqual(Array(times).fill('future-cursor'))
    relay.reset()
    relay.refuses = false
    for (let i = 0; i < 3; i++) relay.message('#account', account)
    await caughtUp(tools, relay)
  }
})

test('D10 a cursor that stays ahead of its relay is told of once, however often it is asked', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  relay.message('#account', account)
  await tools.redis.set(`firehose_live:cursor:${relay.host}`, '1000')
  const ingester = await tools.ingest(relay)
  // It is asked again after half a minute.
  await expect.poll(() => relay.cursors, { ...WAIT, timeout: 45_000 }).toEqual([1000, 1000])
  await expect.poll(() => ingester.metric('sluice_ingester_frames_total', { type: 'error' }), WAIT).toBe(2)
  expect(await tools.incidents()).toEqual(['future-cursor'])
})
