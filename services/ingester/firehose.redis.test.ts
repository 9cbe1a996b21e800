/** What the live stream tells of itself, and what its relay tells of it: at its start, before anything has come, and too often. */
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import { caughtUp, test, WAIT } from './testing/run.ts'

const POST: Write = {
  path: 'app.bsky.feed.post/one',
  record: { $type: 'app.bsky.feed.post', text: 'hello', createdAt: '2026-01-01T00:00:00.000Z' },
}
const HOUR_MS = 3_600_000
const AGE = 'sluice_ingester_last_event_age_seconds'

test('after a restart the age of the newest durable event is as it was, until one is durable', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  await tools.redis.set(`firehose_live:cursor:${relay.host}`, '0')
  await tools.redis.set(`firehose_live:time:${relay.host}`, new Date(Date.now() - 2 * HOUR_MS).toISOString())
  // Nobody's commit can be verified, so none becomes durable.
  relay.directory.isDown = true
  relay.commit(alice, [POST])
  const ingester = await tools.ingest(relay)
  await expect.poll(() => ingester.metric('sluice_ingester_identity_waits_total'), WAIT).toBeGreaterThan(0)
  expect(await ingester.metric('sluice_ingester_frames_total')).toBe(1)
  expect(await ingester.metric(AGE)).toBeGreaterThanOrEqual(7_200)
  relay.directory.isDown = false
  await caughtUp(tools, relay)
  const time = await tools.redis.get(`firehose_live:time:${relay.host}`)
  const leastAge = (Date.now() - Date.parse(time!)) / 1_000
  expect(await ingester.metric(AGE)).toBeGreaterThanOrEqual(leastAge)
})

test('a relay that talks much does not fill the log', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  for (let i = 0; i < 1_000; i++) relay.send(encodeFrame('#info', { name: 'News', message: 'x'.repeat(10_000) }))
  relay.message('#account', { did: testDid('alice'), time: '2026-01-01T00:00:00.000Z', active: true })
  const ingester = await tools.ingest(relay)
  await caughtUp(tools, relay)
  await ingester.stop()
  expect(ingester.log.length).toBeLessThan(20)
  expect(ingester.log.join('')).toMatch(/"told":\{"other":\{"count":1000,"sample":"127[^"]{1,200}"/)
})

test('a relay that repeats on one connection that it has lost events is one incident and one sweep, on the next another', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const outdated = encodeFrame('#info', { name: 'OutdatedCursor', message: 'again' })
  const demand = () => tools.redis.get(sweepDemandKey('repo_backfill'))
  const ingester = await tools.ingest(relay)
  const told = (count: number) =>
    expect.poll(() => ingester.metric('sluice_ingester_frames_total', { type: 'info' }), WAIT).toBe(count)
  relay.send(outdated)
  await expect.poll(demand, WAIT).toMatch(/^outdated-cursor/)
  const first = await demand()
  for (let i = 0; i < 20; i++) relay.send(outdated)
  await told(21)
  relay.message('#account', { did: testDid('alice'), time: '2026-01-01T00:00:00.000Z', active: true })
  await caughtUp(tools, relay)
  expect(await tools.incidents()).toEqual(['outdated-cursor'])
  expect(await demand()).toBe(first)
  relay.disconnect()
  await expect.poll(() => relay.cursors.length, WAIT).toBe(2)
  relay.send(outdated)
  await expect.poll(demand, WAIT).not.toBe(first)
  expect(await demand()).toMatch(/^outdated-cursor/)
  expect(await tools.incidents()).toEqual(['outdated-cursor', 'outdated-cursor'])
})

test('where the cursor was taken away the age is that of nothing, whatever time was left', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await tools.redis.set(`firehose_live:time:${relay.host}`, new Date(0).toISOString())
  const ingester = await tools.ingest(relay)
  await expect.poll(() => ingester.metric('sluice_ingester_connected'), WAIT).toBe(1)
  expect(await ingester.metric(AGE)).toBe(0)
})
