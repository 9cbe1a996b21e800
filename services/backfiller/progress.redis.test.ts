/** O1: what the backfiller counts, and what it reads from Redis at a scrape. */
import { Metrics } from '@sluice/runtime/metrics.ts'
import { parseMetric } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { priorityStream, retryKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { Progress, type Now } from './progress.ts'
import { QUEUE } from './testing/queue-view.ts'

const IDLE: Now = { underWay: 0, waiting: 0, hosts: 0, memoryBytes: 0, heldBy: undefined }

function counting() {
  const metrics = new Metrics({ role: 'backfiller', build: 'b' })
  const progress = new Progress(metrics)
  const value = async (name: string, labels: Record<string, string> = {}) =>
    parseMetric(await metrics.render(), `sluice_backfill_${name}`, labels)[0]
  return { metrics, progress, value }
}

test('what came of repositories, of their records and of their entries is counted, each as what it is', async () => {
  const { progress, value } = counting()
  progress.outcome('exported')
  progress.bytes(300)
  progress.chunk({
    creates: ['a', 'b'],
    isLast: true,
    refused: ['op-bad-path', 'op-bad-path', 'op-bad-link'],
    filtered: 4,
  })
  progress.consumerObserver.redelivered!(2, 'own-pending')
  progress.consumerObserver.redelivered!(3, 'reclaimed')
  progress.consumerObserver.phantoms!(4)
  expect(await value('repos_total', { outcome: 'exported' })).toBe(1)
  expect(await value('bytes_total')).toBe(300)
  expect(await value('records_total')).toBe(2)
  expect(await value('records_filtered_total')).toBe(4)
  expect(await value('records_refused_total', { reason: 'op-bad-path' })).toBe(2)
  expect(await value('records_refused_total', { reason: 'op-bad-link' })).toBe(1)
  expect(await value('entries_total', { what: 'redelivered' })).toBe(2)
  expect(await value('entries_total', { what: 'reclaimed' })).toBe(3)
  expect(await value('entries_total', { what: 'phantom' })).toBe(4)
})

test('what is left is told of both streams and their later tries, with what this process does meanwhile', async ({
  redisUrl,
}) => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    const { metrics, progress, value } = counting()
    let now = IDLE
    progress.watch(metrics, { redis: () => redis, stream: QUEUE, now: () => now })
    const first = priorityStream(QUEUE)
    for (let i = 0; i < 3; i++) await redis.xAdd(QUEUE, '*', { repo: '{}' })
    for (let i = 0; i < 2; i++) await redis.xAdd(first, '*', { repo: '{}' })
    await redis.zAdd(
      retryKey(QUEUE),
      [1, 2, 3, 4].map((score) => ({ score, value: `${score}` })),
    )
    await redis.zAdd(retryKey(first), { score: 1, value: 'a' })
    const left = (queue: string) => value('queue_entries', { queue })
    expect([await left('normal'), await left('priority'), await left('later')]).toEqual([3, 2, 5])

    now = { underWay: 1, waiting: 2, hosts: 3, memoryBytes: 4, heldBy: 'memory' }
    const gauges = ['repos_under_way', 'repos_waiting', 'hosts_active', 'memory_bytes']
    expect(await Promise.all(gauges.map((name) => value(name)))).toEqual([1, 2, 3, 4])
    expect([await value('held_back', { by: 'memory' }), await value('held_back', { by: 'entries' })]).toEqual([1, 0])

    // No pace is known before the first repository is settled; one that comes back is not settled.
    progress.outcome('retry')
    expect(await value('eta_seconds')).toBe(0)
    for (let i = 0; i < 10; i++) progress.outcome('exported')
    // Ten in a minute at least, and in a second at most; ten are left.
    expect(await value('eta_seconds')).toBeGreaterThanOrEqual(1)
    expect(await value('eta_seconds')).toBeLessThan(120)
  } finally {
    redis.destroy()
  }
})
