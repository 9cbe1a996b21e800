/**
 * Memory of an ingester under sustained overload: a relay that always has more, at full verification; resident by
 * quarter of the run, and held after a collection.
 * `FRAMES=240000 node packages/simulator/overload.bench.ts`
 *
 * Every commit is a new one: what is known is dropped before it costs anything.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { populatedRepo, traffic } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { heldMb, PROBED } from './held-memory.ts'
import { connectRedis } from '@sluice/streams/connection.ts'

const FRAMES = Number(process.env.FRAMES ?? 120_000)
const REPOS = 60
const ROUND = 6_000
const STREAM = 'firehose_live'

console.log(`making ${FRAMES} commits`)
const rounds = Array.from({ length: Math.ceil(FRAMES / ROUND) }, (_, round) => {
  const repos = Array.from({ length: REPOS }, (_, i) => populatedRepo(`overload ${round} ${i}`, 50))
  const each = repos.map((repo, i) => traffic(repo, `overload ${round} ${i}`, ROUND / REPOS))
  const bodies = Array.from({ length: ROUND }, (_, i) => each[i % REPOS]![Math.floor(i / REPOS)]!.body)
  return { repos, bodies }
})

await using server = await startRedis()
await using relay = await FakeRelay.start()
relay.register(...rounds.flatMap(({ repos }) => repos))
await using daemon = await startDaemon({
  role: 'ingester',
  nodeFlags: PROBED,
  env: {
    REDIS_URL: server.url(),
    RELAY_HOSTS: relay.url,
    PLC_URL: relay.url,
    INGESTER_MODE: 'firehose',
    INGESTER_INITIAL_CURSOR: '0',
    ALLOW_PRIVATE_HOSTS: 'true',
  },
})
const redis = await connectRedis({ url: server.url(), name: 'bench' })
const cursor = async (): Promise<number> => Number((await redis.get(`${STREAM}:cursor:${relay.host}`)) ?? 0)
const resident: number[] = []
const held: number[] = []
let sent = 0
let appended = 0
const beganAt = performance.now()
for (const [round, { bodies }] of rounds.entries()) {
  for (const [i, body] of bodies.entries())
    relay.send(encodeFrame('#commit', { ...body, seq: sent + i + 1 }), sent + i + 1)
  sent += ROUND
  // A third of the round is still to come: it never runs dry.
  while ((await cursor()) < sent - ROUND / 3) {
    appended += await redis.xTrim(STREAM, 'MAXLEN', 0)
    resident.push(residentMb(daemon.pid))
    await sleep(50)
  }
  if (round % 4 === 0) held.push(await heldMb(daemon))
  relay.forget((await cursor()) - 1)
}
const seconds = (performance.now() - beganAt) / 1_000
redis.destroy()
const quarter = Math.ceil(resident.length / 4)
const means = [0, 1, 2, 3].map((i) => mean(resident.slice(i * quarter, (i + 1) * quarter)))
console.log(
  `${sent} frames in ${seconds.toFixed(0)} s (${Math.round(sent / seconds)}/s), ${appended} entries; resident MB by quarter: ${means.join(' ')}; held MB: ${held.map((mb) => mb.toFixed(0)).join(' ')}`,
)

function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1_024
}

function mean(values: readonly number[]): number {
  return Math.round(values.reduce((sum, value) => sum + value, 0) / values.length)
}
