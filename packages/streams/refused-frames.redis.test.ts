/**
 * Samples of what was refused are bounded in number and bytes, reason by reason, and are the first to go without when
 * Redis is full.
 */
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import {
  countSamples,
  FRAME_BYTES_MAX,
  keptKey,
  listSamples,
  readSample,
  refusedFramesKey,
  refusedStream,
  SAMPLE_BYTES_MAX,
  SAMPLES_MAX,
  storeSample,
  type RefusedFrame,
} from './refused-frames.ts'
import { test } from './testing/fixtures.ts'

const STREAM = 'firehose_live'
const FRAME: RefusedFrame = {
  reason: 'bad-signature',
  detail: 'not by did:key:z',
  host: 'relay.example',
  seq: 7,
  did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa',
  type: 'commit',
  bytes: Buffer.from([0xa0, 0xff, 0x00, 0x0a]),
}

test('a sample tells whose frame it was, from where, why, and holds its bytes as they came', async ({
  tools,
  redisUrl,
}) => {
  const redis = await tools.connect(redisUrl)
  const id = await storeSample(redis, STREAM, FRAME)
  const { bytes, ...told } = FRAME
  const sample = { ...told, id, stream: STREAM, time: expect.stringMatching(/^20.*Z$/) as string, frameBytes: 4 }
  expect(await listSamples(redis, STREAM, { count: 9 })).toEqual([sample])
  expect(await readSample(redis, STREAM, id)).toEqual({ sample, frame: bytes })
  expect(await readSample(redis, STREAM, '1-1')).toBeUndefined()
  const without = await storeSample(redis, STREAM, { ...FRAME, seq: undefined, bytes: undefined })
  const read = (await readSample(redis, STREAM, without))!
  expect(read).toMatchObject({ sample: { frameBytes: 0 }, frame: Buffer.alloc(0) })
  expect(read.sample).not.toHaveProperty('seq')
})

test('a flood of one reason leaves its newest samples, and all of the other reasons', async ({ tools, redisUrl }) => {
  const redis = await tools.connect(redisUrl)
  const rare = await storeSample(redis, STREAM, { ...FRAME, reason: 'cbor-float' })
  for (let seq = 1; seq <= 10 * SAMPLES_MAX; seq++) await storeSample(redis, STREAM, { ...FRAME, seq })
  const left = await listSamples(redis, STREAM, { count: 1_000, reason: FRAME.reason })
  expect(left.map(({ seq }) => seq)).toEqual(Array.from({ length: SAMPLES_MAX }, (_, i) => 10 * SAMPLES_MAX - i))
  expect((await listSamples(redis, STREAM, { count: 1_000 })).at(-1)).toMatchObject({ id: rare, reason: 'cbor-float' })
  expect(await countSamples(redis, STREAM)).toEqual(new Map([['bad-signature', SAMPLES_MAX], ['cbor-float', 1]])) // prettier-ignore
  expect(await redis.xLen(refusedStream(STREAM))).toBe(SAMPLES_MAX + 1)
  expect(await redis.hLen(refusedFramesKey(STREAM))).toBe(SAMPLES_MAX + 1)
})

test('of large frames the beginning is kept, and of a reason so many bytes; how large they were is told', async ({
  tools,
  redisUrl,
}) => {
  const redis = await tools.connect(redisUrl)
  const bytes = Buffer.alloc(5_000_000, 'x')
  const detail = 'y'.repeat(1_000_000)
  for (let seq = 1; seq <= SAMPLES_MAX; seq++)
    await storeSample(redis, STREAM, { ...FRAME, seq, bytes, detail, did: detail })
  const left = await listSamples(redis, STREAM, { count: 100 })
  expect(left.map(({ seq }) => seq)).toEqual([SAMPLES_MAX, SAMPLES_MAX - 1])
  expect(left.map(({ frameBytes }) => frameBytes)).toEqual([bytes.length, bytes.length])
  const frames = Object.values(await redis.hGetAll(refusedFramesKey(STREAM)))
  expect(frames.map(({ length }) => length)).toEqual([FRAME_BYTES_MAX, FRAME_BYTES_MAX])
  expect(frames.length * FRAME_BYTES_MAX).toBeLessThanOrEqual(SAMPLE_BYTES_MAX)
  expect(JSON.stringify(left).length).toBeLessThan(3_000)
})

test('samples that somebody removed by hand are forgotten in turn', async ({ tools, redisUrl }) => {
  const redis = await tools.connect(redisUrl)
  // The stream ends with an entry of a time to come, so the next sample has the id that follows, both times.
  const remove = async (): Promise<void> => {
    await redis.del(refusedStream(STREAM))
    await redis.xAdd(refusedStream(STREAM), '99999999999999-0', { any: 'field' })
    await redis.xDel(refusedStream(STREAM), '99999999999999-0')
  }
  await remove()
  await storeSample(redis, STREAM, FRAME)
  await remove()
  for (let seq = 1; seq <= SAMPLES_MAX; seq++) await storeSample(redis, STREAM, { ...FRAME, seq })
  expect(await redis.xLen(refusedStream(STREAM))).toBe(SAMPLES_MAX)
  expect(await redis.hLen(refusedFramesKey(STREAM))).toBe(SAMPLES_MAX)
})

test('where a key is of another program nothing is stored at all', async ({ tools, redisUrl }) => {
  const redis = await tools.connect(redisUrl)
  const keys = [refusedStream(STREAM), refusedFramesKey(STREAM), keptKey(STREAM)]
  for (const taken of keys) {
    await redis.set(taken, 'theirs')
    await expect(storeSample(redis, STREAM, FRAME)).rejects.toThrow('another program uses the same keys')
    expect(await redis.exists(keys)).toBe(1)
    await redis.del(taken)
  }
})

test('a full Redis takes none', async ({ tools }) => {
  await using server = await startRedis({ maxmemory: '20mb' })
  const redis = await tools.connect(server.url())
  await storeSample(redis, STREAM, FRAME)
  await redis.configSet('maxmemory', '500kb')
  await expect(storeSample(redis, STREAM, FRAME)).rejects.toThrow('Redis is at maxmemory')
  expect(await redis.xLen(refusedStream(STREAM))).toBe(1)
})
