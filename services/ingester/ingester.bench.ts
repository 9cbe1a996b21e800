/**
 * Frames a second of a whole ingester, as a process: from the socket to Redis, at each level of verification, and of
 * frames that belong to other shards. The relay runs here and the ingester's own CPU is counted, so that one row says
 * what one core can do. `node services/ingester/ingester.bench.ts`
 */
import type { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { table, type Measure } from '@sluice/atproto/testing/measure.ts'
import { populatedRepo, traffic } from '@sluice/atproto/testing/world.ts'
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { cpuSecondsOf } from '@sluice/sandbox/bench/cpu.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { shardOf } from '@sluice/streams/spread.ts'

const REPOS = 60
/** So many that some hold none of the repositories. */
const SHARDS = 1_000
const FRAMES = Number(process.env.EVENTS ?? 24_000)

/**
 * One row for each level, and one for frames that are not looked at: CPU of the ingester a frame, everything included.
 */
export async function benchIngester(frames = FRAMES): Promise<Measure[]> {
  const repos = Array.from({ length: REPOS }, (_, i) => populatedRepo(`ingester bench ${i}`, 200))
  const bodies = interleaved(repos, frames)
  const rows: Measure[] = []
  for (const level of ['off', 'proof', 'full']) rows.push(await run(level, repos, bodies))
  const used = new Set(repos.map(({ did }) => shardOf(did, SHARDS)))
  const unused = Array.from({ length: SHARDS }, (_, index) => index).find((index) => !used.has(index))!
  rows.push(await run('full', repos, bodies, `${unused}/${SHARDS}`))
  return rows
}

function interleaved(repos: readonly TestRepo[], frames: number): Buffer[] {
  const each = repos.map((repo, i) => traffic(repo, `ingester bench ${i}`, Math.ceil(frames / repos.length)))
  return Array.from({ length: frames }, (_, i) => {
    const { body } = each[i % repos.length]![Math.floor(i / repos.length)]!
    return encodeFrame('#commit', { ...body, seq: i + 1 })
  })
}

async function run(level: string, repos: readonly TestRepo[], frames: readonly Buffer[], shard = ''): Promise<Measure> {
  await using server = await startRedis()
  await using relay = await FakeRelay.start()
  relay.register(...repos)
  relay.holds = true
  for (const [i, bytes] of frames.entries()) relay.send(bytes, i + 1)
  await using daemon = await startDaemon({
    role: 'ingester',
    env: {
      REDIS_URL: server.url(),
      RELAY_HOSTS: relay.url,
      PLC_URL: relay.url,
      INGESTER_MODE: 'firehose',
      INGESTER_INITIAL_CURSOR: '0',
      INGESTER_VERIFY: level,
      INGESTER_SHARD: shard,
      INGESTER_FIREHOSE_STREAM_HIGH_WATER_MARK: '10000000',
      ALLOW_PRIVATE_HOSTS: 'true',
    },
  })
  const redis = await connectRedis({ url: server.url(), name: 'bench' })
  try {
    const before = cpuSecondsOf(daemon.pid)
    const mainBefore = mainThreadSeconds(daemon.pid)
    const beganAt = performance.now()
    relay.release()
    const key = `firehose_live:cursor:${relay.host}`
    while ((await redis.get(key)) !== String(frames.length)) await sleep(20)
    const seconds = (performance.now() - beganAt) / 1_000
    const main = Math.round(((mainThreadSeconds(daemon.pid) - mainBefore) * 1e6) / frames.length)
    const micros = ((cpuSecondsOf(daemon.pid) - before) * 1e6) / frames.length
    const name = `${shard === '' ? level : 'of other shards'}, of which main thread ${main} µs (wall: ${Math.round(frames.length / seconds)}/s)`
    return { name, micros, perSecond: 1e6 / micros }
  } finally {
    redis.destroy()
  }
}

/** CPU of the thread that reads, decides and writes; the others verify. */
function mainThreadSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/task/${pid}/stat`, 'utf8')
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
  return (Number(user) + Number(system)) / 100
}

if (import.meta.main) console.log(table('A whole ingester, its CPU a frame', await benchIngester()))
