import { labelEventCodec, backfillEventCodec, streamEventCodec } from '@sluice/events/codec.ts'
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork } from '@sluice/sandbox/network.ts'
import { Population } from '@sluice/sandbox/population.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'

const WAIT = { timeout: 30_000, interval: 50 }

test('of a real PDS and labeler every repository is asked for and every change arrives, through kill -9', async ({
  redisUrl,
  emptyDatabase,
}) => {
  await using network = await startNetwork({ labelerDatabaseUrl: emptyDatabase })
  const host = new URL(network.pds.url).host
  const people = await Population.create(network, { seed: 4, people: 8, before: 120, during: 120 })
  await people.populate()
  const before = new Map([...people.records].map(([uri, { cid }]) => [uri, cid]))
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  const env = {
    REDIS_URL: redisUrl,
    PLC_URL: network.plcUrl,
    RELAY_HOSTS: network.pds.url,
    LABELER_HOSTS: network.labeler.url,
    INGESTER_BATCH_SIZE: '7',
    INDEXER_COLLECTIONS: 'com.example.*',
  }
  try {
    const first = await startDaemon({ role: 'ingester', env })
    await expect.poll(() => redis.get(`repo_backfill:cursor:${host}`), WAIT).toBe('!ingester-done')
    expect((await requests(redis)).map(({ did }) => did).sort()).toEqual(people.people.map(({ did }) => did).sort())

    const traffic = people.traffic()
    await expect.poll(() => redis.xLen('firehose_live'), WAIT).toBeGreaterThan(20)
    await first.kill()
    const atKill = await redis.xLen('firehose_live')
    await using second = await startDaemon({ role: 'ingester', env })
    await traffic

    const fold = new Map(before)
    await expect.poll(async () => apply(fold, await events(redis)), WAIT).toEqual(wanted(people))
    expect(await redis.xLen('firehose_live')).toBeGreaterThan(atKill)
    await expect.poll(() => labels(redis), WAIT).toEqual(published(people))
    const seq = await network.pds.server.ctx.sequencer.curr()
    await expect.poll(() => redis.get(`firehose_live:cursor:${host}`), WAIT).toBe(String(seq))
    expect((await requests(redis)).length).toBe(people.people.length)
    expect(await second.metric('sluice_ingester_resyncs_total', { answer: 'asked' })).toBe(0)
    await second.stop()
  } finally {
    redis.destroy()
  }
})

async function requests(redis: Redis) {
  return (await redis.xRange('repo_backfill', '-', '+'))!.map(({ message }) => backfillEventCodec.decode(message))
}

async function events(redis: Redis): Promise<StreamEvent[]> {
  return (await redis.xRange('firehose_live', '-', '+'))!.map(({ message }) => streamEventCodec.decode(message))
}

/** What the repositories hold after these events. */
function apply(records: Map<string, string>, changes: readonly StreamEvent[]): Map<string, string> {
  for (const event of changes) {
    if (event.type === 'create' || event.type === 'update') records.set(uriOf(event), event.cid)
    if (event.type === 'delete') records.delete(uriOf(event))
  }
  return records
}

function wanted(people: Population): Map<string, string> {
  return new Map([...people.records].map(([uri, { cid }]) => [uri, cid]))
}

/** The newest label of each subject and value. */
async function labels(redis: Redis): Promise<Map<string, boolean>> {
  const entries = (await redis.xRange('label_live', '-', '+'))!
  return new Map(
    entries.map(({ message }) => {
      const { label } = labelEventCodec.decode(message)
      return [`${label.uri} ${label.val}`, label.neg ?? false]
    }),
  )
}

function published(people: Population): Map<string, boolean> {
  return new Map([...people.labels].map(([key, { neg }]) => [key, neg ?? false]))
}
