/**
 * Relays and accounts that misbehave, one way a test: what becomes of it is named, nothing else is harmed, every frame
 * is in the ledger, and there is a sample of each that was refused. What follows each time is a good commit of somebody
 * else, which must arrive.
 */
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { countSamples } from '@sluice/streams/refused-frames.ts'
import { path, post, rows, type Stage } from './testing/misbehaviours.ts'
import { caughtUp, test, WAIT, type Tools } from './testing/run.ts'

/** How many samples there are of each reason. */
const sampled = async ({ redis }: Tools) => Object.fromEntries(await countSamples(redis, 'firehose_live'))

test.for(rows)('$name', async (row, { tools }) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  const bob = new TestRepo(testDid('bob'))
  relay.register(alice, bob)
  relay.commit(alice, [{ path: path(0), record: post('first') }])
  const stage: Stage = {
    relay,
    alice,
    next: (writes = [{ path: path(1), record: post('one') }]) => alice.write(writes),
    sendBody: (body) => void relay.message('#commit', body),
  }
  row.act(stage)
  relay.commit(bob, [{ path: path(0), record: post('good') }])
  const ingester = await tools.ingest(relay)
  await caughtUp(tools, relay)

  const ledger = await tools.ledger(relay)
  const { appended = 0, ...others } = row.outcomes
  expect(ledger).toEqual({ appended: appended + 2, ...others })
  expect(Object.values(ledger).reduce((sum, count) => sum + count, 0)).toBe(relay.frames)
  const events = await tools.events()
  expect(JSON.stringify(events).length).toBeLessThan(10_000)
  const texts = events.flatMap((event) => (event.type === 'create' ? [event.record.text] : []))
  expect(new Set(texts)).toEqual(new Set(['first', 'good', ...(row.arrives ?? [])]))
  const requests = (await tools.requests()).map(({ did, reason }) => ({ did, reason }))
  expect(requests).toEqual(row.resync === undefined ? [] : [{ did: alice.did, reason: row.resync }])
  for (const [name, labels, value] of row.metrics ?? []) expect(await ingester.metric(name, labels)).toBe(value)
  const refusals = Object.entries(others).flatMap(([outcome, n]) => (outcome.startsWith('refused:') ? [[outcome.slice(8), n]] : [])) // prettier-ignore
  await expect.poll(() => sampled(tools), WAIT).toMatchObject(Object.fromEntries(refusals) as object)
  expect(relay.cursors).toEqual([0])
  expect(relay.directory.asked(`/${alice.did}`)).toBeLessThanOrEqual(row.documents ?? 2)
})

test('V3 a commit that was refused shows as a gap with the next one, and the repository is asked for', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  relay.commit(alice, [{ path: path(0), record: post('first') }])
  const { body } = alice.write([{ path: path(1), record: post('damaged') }])
  relay.message('#commit', { ...body, blocks: body.blocks.subarray(0, -5) })
  relay.commit(alice, [{ path: path(2), record: post('next') }])
  await tools.ingest(relay)
  await caughtUp(tools, relay)
  expect(await tools.requests()).toMatchObject([{ did: alice.did, rev: alice.rev, reason: 'gap' }])
})

test('D10 an error frame ends the connection, which is made anew and goes on behind what was read', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  relay.commit(alice, [{ path: path(0), record: post('first') }])
  const ingester = await tools.ingest(relay)
  await caughtUp(tools, relay)
  relay.error = 'ConsumerTooSlow'
  relay.disconnect()
  await expect.poll(() => ingester.metric('sluice_ingester_reconnects_total', { reason: 'error-frame' }), WAIT).toBe(1)
  relay.error = undefined
  relay.commit(alice, [{ path: path(1), record: post('second') }])
  await caughtUp(tools, relay)
  expect(relay.cursors).toEqual([0, 1, 1])
  expect(await tools.ledger(relay)).toEqual({ appended: 2 })
})

test('D10 a relay that stalls is left, and read anew behind what was read', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  relay.commit(alice, [{ path: path(0), record: post('first') }])
  const ingester = await tools.ingest(relay, { INGESTER_IDLE_MS: '1s' })
  await caughtUp(tools, relay)
  relay.stall()
  relay.commit(alice, [{ path: path(1), record: post('second') }])
  await caughtUp(tools, relay)
  expect(await ingester.metric('sluice_ingester_reconnects_total', { reason: 'idle' })).toBeGreaterThanOrEqual(1)
  expect(await tools.ledger(relay)).toEqual({ appended: 2 })
})

test('D1 frames without a position that a new connection brings again are counted once', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  relay.commit(alice, [{ path: path(0), record: post('first') }])
  const ingester = await tools.ingest(relay)
  await caughtUp(tools, relay)
  relay.send(Buffer.from('no frame at all'))
  relay.send(encodeFrame('#novelty', { did: alice.did }))
  const unknown = () => ingester.metric('sluice_ingester_frames_total', { type: 'unknown' })
  await expect.poll(unknown, WAIT).toBe(1)
  relay.disconnect()
  await expect.poll(unknown, WAIT).toBe(2)
  relay.commit(alice, [{ path: path(1), record: post('second') }])
  await caughtUp(tools, relay)
  expect(relay.cursors).toEqual([0, 1])
  expect(await tools.ledger(relay)).toEqual({ appended: 2, 'refused:frame-bad-header': 1, 'unknown-type': 1 })
})

test('a connection that breaks in the middle of a frame costs nothing', async ({ tools }) => {
  await using relay = await FakeRelay.start({ cutAfter: () => (relay.cuts === 0 ? 1 : Infinity) })
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  for (let n = 0; n < 3; n++) relay.commit(alice, [{ path: path(n), record: post(`${n}`) }])
  const ingester = await tools.ingest(relay)
  await caughtUp(tools, relay)
  expect(relay.cuts).toBe(1)
  expect(relay.cursors).toEqual([0, 1])
  expect(await ingester.metric('sluice_ingester_reconnects_total', { reason: 'closed' })).toBe(1)
  expect(await tools.ledger(relay)).toEqual({ appended: 3 })
})
