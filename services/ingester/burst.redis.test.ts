/** A burst of 50,000 frames while Redis does not answer: memory stays bounded, and nothing is lost. */
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect, test as plain } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { ledgerKey } from '@sluice/streams/ledger.ts'
import { envOf, TestIngester, WAIT } from './testing/run.ts'

const FRAMES = 50_000
const BUDGET = 2 * 1024 ** 2

plain('50,000 frames in a burst while Redis is paused', async () => {
  await using server = await startRedis()
  await using relay = await FakeRelay.start()
  const ingester = await TestIngester.start({
    ...envOf(relay, server.url()),
    INGESTER_MEMORY_BYTES: String(BUDGET),
    INGESTER_BATCH_SIZE: '2000',
    INGESTER_PAUSE_MS: '1000',
  })
  await expect.poll(() => ingester.metric('sluice_ingester_connected'), WAIT).toBe(1)
  server.pause()
  for (let seq = 1; seq <= FRAMES; seq++) {
    const body = { seq, did: `did:web:a${seq}.example`, time: '2026-01-01T00:00:00.000Z', active: true }
    relay.send(encodeFrame('#account', body), seq)
  }
  const underWay = () => ingester.metric('sluice_ingester_under_way_bytes')
  await expect.poll(underWay, WAIT).toBeGreaterThan(BUDGET / 2)
  const frames = await ingester.metric('sluice_ingester_frames_total')
  expect(frames).toBeLessThan(FRAMES / 2)
  expect(await underWay()).toBeLessThanOrEqual(BUDGET)
  server.resume()
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  await expect.poll(() => redis.get(`firehose_live:cursor:${relay.host}`), { timeout: 40_000 }).toBe(String(FRAMES))
  expect(await redis.xLen('firehose_live')).toBe(FRAMES)
  expect(await redis.hGetAll(ledgerKey('firehose_live', relay.host))).toEqual({ appended: String(FRAMES) })
  redis.destroy()
  await ingester.stop()
})
