/**
 * V1: a key that its account has revoked signs nothing more, from the account's `#identity` on, wherever the key was
 * remembered.
 */
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { caughtUp, test } from './testing/run.ts'

const TIME = '2026-01-01T00:00:00.000Z'
const post = (rkey: string): Write[] => [
  { path: `app.bsky.feed.post/${rkey}`, record: { $type: 'app.bsky.feed.post', text: rkey, createdAt: TIME } },
]

test.for([
  { name: 'this process and Redis remember', restarts: false },
  { name: 'Redis remembers', restarts: true },
])('V1 after #identity a commit by the old key, which $name, is refused', async ({ restarts }, { tools }) => {
  await using relay = await FakeRelay.start()
  // Signs with the old key throughout, as a host would that the account has left.
  const old = new TestRepo(testDid('alice'))
  relay.register(old)
  relay.commit(old, post('one'))
  const first = await tools.ingest(relay)
  await caughtUp(tools, relay)
  expect(relay.directory.asked(`/${old.did}`)).toBe(1)
  if (restarts) {
    await first.stop()
    await tools.ingest(relay)
  }

  relay.register(Object.assign(new TestRepo(old.did), { key: testKey('new key of alice') }))
  relay.message('#identity', { did: old.did, time: TIME })
  relay.commit(old, post('two'))
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toEqual({ appended: 2, 'refused:bad-signature': 1 })
  const paths = (await tools.events()).flatMap((event) => (event.type === 'create' ? [event.rkey] : []))
  expect(paths).toEqual(['one'])
})
