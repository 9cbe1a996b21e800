/** O1: how much an ingester reads, where it is, and how long that takes. */
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { caughtUp, test, WAIT } from './testing/run.ts'

const COMMITS = 5

test('O1 the events that were appended, the durable cursor, and how long verifying and storing took', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const repo = new TestRepo(testDid('alice'))
  relay.register(repo)
  const record = { $type: 'app.bsky.feed.post', text: 'hello', createdAt: '2026-01-01T00:00:00.000Z' }
  for (let i = 0; i < COMMITS; i++) relay.commit(repo, [{ path: `app.bsky.feed.post/r${i}`, record }])
  const ingester = await tools.ingest(relay)
  await caughtUp(tools, relay)
  // Counted when Redis has answered, which is after others may see the cursor there.
  await expect.poll(() => ingester.metric('sluice_ingester_events_total'), WAIT).toBe(COMMITS)
  expect(await ingester.metric('sluice_ingester_seq', { host: relay.host })).toBe(relay.seq)
  expect(await ingester.metric('sluice_ingester_verify_seconds_total')).toBeGreaterThan(0)
  const appends = await ingester.metric('sluice_ingester_append_seconds_count')
  expect(appends).toBeGreaterThanOrEqual(1)
  // Of each batch the delay of its last event.
  expect(await ingester.metric('sluice_ingester_event_delay_seconds_count')).toBe(appends)
  expect(await ingester.metric('sluice_ingester_append_seconds_sum')).toBeGreaterThan(0)
})
