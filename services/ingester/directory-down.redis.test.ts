/** A directory that answers nobody: whose identity it has waits for it, whatever room that takes. */
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { caughtUp, test, WAIT } from './testing/run.ts'

const UNDER_WAY = 'sluice_ingester_under_way_bytes'

test('V1 an account whose directory is down is given up for no room that its frames take', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  relay.directory.isDown = true
  for (let i = 0; i < 8; i++) {
    const record = { $type: 'app.bsky.feed.post', text: 'x'.repeat(90_000), createdAt: '2026-01-01T00:00:00.000Z' }
    relay.commit(alice, [{ path: `app.bsky.feed.post/r${i}`, record }])
  }
  const ingester = await tools.ingest(relay, { INGESTER_MEMORY_BYTES: '2mb' })
  // A did:web would be given up beyond a sixteenth of the memory, and all of them together beyond a quarter.
  await expect.poll(() => ingester.metric(UNDER_WAY), WAIT).toBeGreaterThan(600_000)
  await expect.poll(() => ingester.metric('sluice_ingester_identity_waits_total'), WAIT).toBeGreaterThan(1)
  expect(await tools.cursor(relay)).toBeNull()
  relay.directory.isDown = false
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toEqual({ appended: 8 })
  expect(await tools.requests()).toEqual([])
})
