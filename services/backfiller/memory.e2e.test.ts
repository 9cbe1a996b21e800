/**
 * D8: a repository of 40 MB goes through in memory that is bounded, whatever its size. One of `REPO_MB=300` takes
 * minutes, and 2 GB to be made. Prints the peak.
 */
import { readFileSync } from 'node:fs'
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { enqueue, OUTPUT, QUEUE } from './testing/queue-view.ts'

const REPO_MB = Number(process.env.REPO_MB ?? 40)
const RECORDS_PER_MB = 3_000
/**
 * What an idle backfiller has grown by at the peak: 33 to 46 MiB with 40 MB, 106 with 300. One that keeps what it has
 * sent grows by 84 with 40.
 */
const GROWTH_MIB_MAX = 50 + 0.45 * REPO_MB
/**
 * On a large machine Node lets the young generation grow to 128 MB and more, whatever is alive in it: about 110 MB
 * more.
 */
const NODE_FLAGS = ['--max-semi-space-size=8']

test('D8: a large repository stays within the memory', { timeout: 1_200_000 }, async ({ redisUrl }) => {
  const repo = populatedRepo('large', REPO_MB * RECORDS_PER_MB)
  await using network = await FakeNetwork.start()
  const account = network.addAccount(repo, await network.addHost())
  const bytes = account.car().length
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    await enqueue(redis, [{ did: repo.did, host: account.pds.host, rev: repo.rev, reason: 'requested' }])
    const env = {
      REDIS_URL: redisUrl,
      PLC_URL: network.plcUrl,
      ALLOW_PRIVATE_HOSTS: 'true',
      BACKFILLER_CONSUMER: 'one',
      BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK: '20000',
    }
    const startedMs = performance.now()
    await using daemon = await startDaemon({ role: 'backfiller', env, nodeFlags: NODE_FLAGS })
    const idleMib = peakMib(daemon.pid)
    let events = 0
    const left = async (): Promise<number> => {
      events += await discard(redis)
      return redis.xLen(QUEUE)
    }
    await expect.poll(left, { timeout: 600_000, interval: 5 }).toBe(0)
    for (let more = 1; more > 0; events += more) more = await discard(redis)
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
    const peak = peakMib(daemon.pid)
    console.log(
      `${(bytes / 1e6).toFixed(0)} MB, ${repo.records.size} records: ${seconds} s, peak RSS ${peak} MiB (${idleMib} MiB before)`,
    )
    expect(events).toBeGreaterThan(repo.records.size)
    expect(await daemon.metric('sluice_backfill_records_total')).toBe(repo.records.size)
    expect(peak - idleMib).toBeLessThan(GROWTH_MIB_MAX)
  } finally {
    redis.destroy()
  }
})

/** The most that the process ever had in memory. */
function peakMib(pid: number): number {
  const [, kib] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Math.round(Number(kib) / 1024)
}

async function discard(redis: Redis): Promise<number> {
  const ids = ((await redis.xRange(OUTPUT, '-', '+', { COUNT: 5_000 })) ?? []).map(({ id }) => id)
  return ids.length === 0 ? 0 : redis.xDel(OUTPUT, ids)
}
