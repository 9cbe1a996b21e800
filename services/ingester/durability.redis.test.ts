/**
 * A Redis that forgets, or that somebody else writes to: we go on where we are, say what may be missing, and never move
 * what is not ours.
 */
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { TestRepo, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import { chainAddress, moveChain, readChains } from '@sluice/streams/chain-state.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { caughtUp, envOf, test, TestIngester, WAIT } from './testing/run.ts'

let number = 0
const post = (): Write => ({
  path: `app.bsky.feed.post/r${number++}`,
  record: { $type: 'app.bsky.feed.post', text: 'hello', createdAt: '2026-01-01T00:00:00.000Z' },
})

async function stage(commits: number) {
  const relay = await FakeRelay.start()
  const alice = new TestRepo(testDid('alice'))
  relay.register(alice)
  for (let i = 0; i < commits; i++) relay.commit(alice, [post()])
  return { relay, alice, [Symbol.asyncDispose]: () => relay.close() }
}

test('D6 a Redis that was emptied: it goes on where it was, and what was lost is an incident and a sweep', async ({
  tools,
}) => {
  await using at = await stage(10)
  const { relay, alice } = at
  await tools.ingest(relay)
  await caughtUp(tools, relay)
  await tools.redis.flushDb()
  relay.commit(alice, [post()])
  await caughtUp(tools, relay)
  expect(await tools.incidents()).toContain('cursor-behind')
  expect(await tools.redis.get(sweepDemandKey('repo_backfill'))).toMatch(/^cursor-behind/)
  expect((await tools.events()).length).toBe(1)
  // Nothing is known of the account any more: its past is asked for.
  expect(await tools.requests()).toMatchObject([{ did: alice.did, reason: 'gap' }])
})

test('D6 a Redis that was emptied while the cursor was 0: that is a cursor too, and was moved by nobody else', async ({
  tools,
}) => {
  await using at = await stage(0)
  const { relay, alice } = at
  const ingester = await tools.ingest(relay, { INGESTER_INITIAL_CURSOR: '' })
  await expect.poll(() => ingester.metric('sluice_ingester_connected'), WAIT).toBe(1)
  const identity = { did: alice.did, time: '2026-01-01T00:00:00.000Z' }
  relay.send(encodeFrame('#identity', { ...identity, seq: 0 }), 0)
  await caughtUp(tools, relay)
  await tools.redis.flushDb()
  relay.message('#identity', identity)
  await caughtUp(tools, relay)
  expect(await tools.incidents()).toEqual(['cursor-behind'])
  expect(relay.cursors).toEqual([undefined, 0])
})

test('D6 a Redis that came back older: what it lost is read again', async ({ tools }) => {
  await using at = await stage(4)
  const { relay, alice } = at
  await tools.ingest(relay)
  await caughtUp(tools, relay)
  const [older] = await readChains(tools.redis, [alice.did])
  for (let i = 0; i < 6; i++) relay.commit(alice, [post()])
  await caughtUp(tools, relay)
  const lost = (await tools.redis.xRange('firehose_live', '-', '+'))!.slice(4).map(({ id }) => id)
  expect(await tools.redis.xDel('firehose_live', lost)).toBe(6)
  const { key, field } = chainAddress(alice.did)
  await tools.redis.hSet(key, field, older!.bytes)
  await tools.redis.set(`firehose_live:cursor:${relay.host}`, '4')
  relay.commit(alice, [post()])
  await caughtUp(tools, relay)
  expect(relay.cursors).toEqual([0, 4])
  expect(await tools.incidents()).toContain('cursor-behind')
  expect((await tools.events()).map((event) => 'seq' in event && event.seq)).toEqual([
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
  ])
  expect(await tools.requests()).toEqual([])
})

test('a second ingester of the same relay: one of the two ends, and nothing is appended twice', async ({
  redisUrl,
  tools,
}) => {
  await using at = await stage(0)
  const { relay, alice } = at
  const env = { ...envOf(relay, redisUrl), INGESTER_BATCH_SIZE: '5' }
  const both = await Promise.all([TestIngester.start(env), TestIngester.start(env)])
  await expect.poll(() => relay.connected, WAIT).toBe(2)
  let sent = 0
  const ended = Promise.race(both.map(({ ended }) => ended))
  let code: number | undefined
  void ended.then((it) => (code = it))
  await expect
    .poll(() => {
      relay.commit(alice, [post()])
      sent++
      return code
    }, WAIT)
    .toBe(1)
  await caughtUp(tools, relay)
  expect((await tools.events()).length).toBe(sent)
  expect(both.some(({ log }) => log.join('').includes('another ingester reads the same host'))).toBe(true)
  await Promise.allSettled(both.map((one) => one.stop()))
})

test.for(['latest', '1.5', '-1', '', '99999999999999999999'])(
  'D1 a cursor that says "%s" is no position: the ingester ends and says so, and reads nothing',
  async (text, { redisUrl, tools }) => {
    await using at = await stage(1)
    const { relay } = at
    const key = `firehose_live:cursor:${relay.host}`
    await tools.redis.set(key, text)
    const ingester = await TestIngester.start(envOf(relay, redisUrl))
    expect(await ingester.ended).toBe(1)
    await expect(ingester.stop()).rejects.toThrow(`holds \\"${text}\\", which is no cursor`)
    expect([relay.cursors, await tools.redis.get(key)]).toEqual([[], text])
  },
)

test('D9 a stop while Redis is away ends in bounded time, and what was not stored is read again', async () => {
  await using server = await startRedis({ settings: { appendfsync: 'always' } })
  await using at = await stage(5)
  const { relay, alice } = at
  const first = await TestIngester.start(envOf(relay, server.url()))
  const cursor = async (): Promise<string | null> => {
    const redis = await connectRedis({ url: server.url(), name: 'test' })
    return await redis.get(`firehose_live:cursor:${relay.host}`).finally(() => redis.destroy())
  }
  await expect.poll(cursor, WAIT).toBe('5')
  await server.kill()
  relay.commit(alice, [post()])
  await expect.poll(() => first.metric('sluice_ingester_under_way_bytes'), WAIT).toBeGreaterThan(0)
  await first.stop()
  expect(first.log.join('')).toContain('it is read again after the start')
  await server.start()
  const second = await TestIngester.start(envOf(relay, server.url()))
  await expect.poll(cursor, WAIT).toBe('6')
  await second.stop()
})

test('a chain record that the backfiller moves at the same time is decided again', async ({ tools }) => {
  await using at = await stage(3)
  const { relay, alice } = at
  const ingester = await tools.ingest(relay)
  await caughtUp(tools, relay)
  const [stored] = await readChains(tools.redis, [alice.did])
  const { key, field, to } = moveChain(alice.did, stored, { ...stored!.record, inactive: true })
  await tools.redis.hSet(key, field, to)
  relay.commit(alice, [post()])
  await caughtUp(tools, relay)
  expect(await ingester.metric('sluice_ingester_chain_conflicts_total')).toBe(1)
  expect(await tools.ledger(relay)).toMatchObject({ appended: 3, 'refused:account-inactive': 1 })
})

test('Redis killed in the middle: what was appended and what is said to be agree, and nothing is missing', async () => {
  await using server = await startRedis({ settings: { appendfsync: 'always' } })
  await using at = await stage(400)
  const { relay, alice } = at
  const ingester = await TestIngester.start({ ...envOf(relay, server.url()), INGESTER_BATCH_SIZE: '3' })
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  const cursor = async () => Number(await redis.get(`firehose_live:cursor:${relay.host}`).catch(() => 0))
  await expect.poll(cursor, { ...WAIT, interval: 1 }).toBeGreaterThan(5)
  const before = await cursor()
  await server.kill()
  await server.start()
  for (let i = 0; i < 50; i++) relay.commit(alice, [post()])
  await expect.poll(cursor, WAIT).toBe(450)
  expect(before).toBeLessThan(400)
  expect(await redis.xLen('firehose_live')).toBe(450)
  redis.destroy()
  await ingester.stop()
})

test.for([
  ['READONLY', ['REPLICAOF', '127.0.0.1', '9'], ['REPLICAOF', 'NO', 'ONE']],
  ['NOREPLICAS', ['CONFIG', 'SET', 'min-replicas-to-write', '1'], ['CONFIG', 'SET', 'min-replicas-to-write', '0']],
] as const)(
  'O3: while Redis takes no writes (%s) it is not ready and says why; then it goes on',
  async ([code, begin, end]) => {
    await using at = await stage(1)
    const { relay, alice } = at
    await using server = await startRedis()
    const redis = await connectRedis({ url: server.url(), name: 'test' })
    const ingester = await TestIngester.start(envOf(relay, server.url()))
    try {
      await expect.poll(() => redis.xLen('firehose_live'), WAIT).toBe(1)
      await expect.poll(() => ingester.readiness.reasons, WAIT).toEqual([])
      await redis.sendCommand([...begin])
      relay.commit(alice, [post()])
      await expect.poll(() => ingester.readiness.reasons.join(), WAIT).toMatch(`firehose_live: Redis: ${code}`)
      await redis.sendCommand([...end])
      await expect.poll(() => redis.xLen('firehose_live'), WAIT).toBe(2)
      await expect.poll(() => ingester.readiness.reasons, WAIT).toEqual([])
    } finally {
      await ingester.stop()
      redis.destroy()
    }
  },
)
