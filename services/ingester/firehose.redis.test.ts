/**
 * What the live stream tells of itself, and what its relay tells of it: at its start, before anything has come, and too
 * often.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import { shardOf } from '@sluice/streams/spread.ts'
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

test('a relay that repeats on one connection that it has lost events is one incident and one sweep, and on the next ones another when something has come since', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const outdated = encodeFrame('#info', { name: 'OutdatedCursor', message: 'again' })
  const demand = () => tools.redis.get(sweepDemandKey('repo_backfill'))
  const ingester = await tools.ingest(relay)
  const told = (count: number) =>
    expect.poll(() => ingester.metric('sluice_ingester_frames_total', { type: 'info' }), WAIT).toBe(count)
  const something = async () => {
    relay.message('#account', { did: testDid('alice'), time: '2026-01-01T00:00:00.000Z', active: true })
    await caughtUp(tools, relay)
  }
  relay.send(outdated)
  await expect.poll(demand, WAIT).toMatch(/^outdated-cursor/)
  const first = await demand()
  for (let i = 0; i < 20; i++) relay.send(outdated)
  await something()
  relay.send(outdated)
  await told(22)
  expect(await tools.incidents()).toEqual(['outdated-cursor'])
  expect(await demand()).toBe(first)

  // What has no position is sent again to each connection that begins before it.
  relay.disconnect()
  await told(23)
  await expect.poll(demand, WAIT).not.toBe(first)
  const second = await demand()
  expect(second).toMatch(/^outdated-cursor/)
  for (const count of [24, 25]) {
    relay.disconnect()
    await told(count)
  }
  expect(await tools.incidents()).toEqual(['outdated-cursor', 'outdated-cursor'])
  expect(await demand()).toBe(second)

  await something()
  relay.disconnect()
  await expect.poll(() => relay.cursors.at(-1), WAIT).toBe(2)
  relay.send(outdated)
  await expect.poll(demand, WAIT).not.toBe(second)
  expect(await tools.incidents()).toEqual(['outdated-cursor', 'outdated-cursor', 'outdated-cursor'])
  expect(await ingester.metric('sluice_incidents_total', { kind: 'outdated-cursor' })).toBe(3)
  expect(await ingester.metric('sluice_incidents_total')).toBe(3)
})

test('where the cursor was taken away the age is that of nothing, whatever time was left', async ({ tools }) => {
  await using relay = await FakeRelay.start()
  await tools.redis.set(`firehose_live:time:${relay.host}`, new Date(0).toISOString())
  const ingester = await tools.ingest(relay)
  await expect.poll(() => ingester.metric('sluice_ingester_connected'), WAIT).toBe(1)
  expect(await ingester.metric(AGE)).toBe(0)
})

test('a relay that is down holds up no other, before that is known and after, and is read when it is back', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  await using away = await FakeRelay.start()
  away.refuses = true
  const [alice, bob] = ['alice', 'bob'].map((name) => ({ did: testDid(name), time: '2026-01-01T00:00:00.000Z' }))
  for (const [of, account] of [
    [relay, alice],
    [away, bob],
  ] as const)
    of.message('#account', { ...account, active: true })
  // The one that is down is the first of them.
  const ingester = await tools.ingest(relay, { RELAY_HOSTS: `${away.url},${relay.url}` })
  await caughtUp(tools, relay)
  const refused = { host: away.host, reason: 'refused' }
  await expect.poll(() => ingester.metric('sluice_ingester_reconnects_total', refused), WAIT).toBeGreaterThan(1)
  relay.message('#account', { ...alice, active: true })
  await caughtUp(tools, relay)
  expect(relay.cursors).toEqual([0])
  expect(await tools.cursor(away)).toBeNull()
  away.refuses = false
  await caughtUp(tools, away)
  expect([await tools.ledger(relay), await tools.ledger(away)]).toEqual([{ appended: 2 }, { appended: 1 }])
  // By it the indexer tells the host of an account from one that the account has left.
  const said = (await tools.events()).flatMap((event) => (event.type === 'account' ? [[event.did, event.host]] : []))
  expect(said).toEqual([[alice!.did, relay.host], [alice!.did, relay.host], [bob!.did, away.host]]) // prettier-ignore
})

test('what only moves the cursor waits for its batch to fill as long as INGESTER_BATCH_TIMEOUT_MS says', async ({
  tools,
}) => {
  await using relay = await FakeRelay.start()
  const { did } = new TestRepo(testDid('of another shard'))
  const shard = `${1 - shardOf(did, 2)}/2`
  const limits = { INGESTER_BATCH_TIMEOUT_MS: '1m', INGESTER_BATCH_SIZE: '2' }
  const ingester = await tools.ingest(relay, { ...limits, INGESTER_SHARD: shard })
  const tell = () => relay.message('#account', { did, time: '2026-01-01T00:00:00.000Z', active: true })
  tell()
  await expect.poll(() => ingester.metric('sluice_ingester_frames_total'), WAIT).toBe(1)
  // Longer than without the option.
  await sleep(2_000)
  expect(await tools.cursor(relay)).toBeNull()
  tell()
  await caughtUp(tools, relay)
  expect(await tools.ledger(relay)).toEqual({ 'other-shard': 2 })
})
