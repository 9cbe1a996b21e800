/**
 * D3, D4: backfillers that are killed again and again end in the same events as if they had not been. Two in one group;
 * in the end one of them stays dead, and the other inherits.
 *
 * `REPOS=1000 KILLS=60` is the long run; `SEED` repeats who is killed where.
 */
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { startDaemon, type Daemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { readChains } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { setTimeout as delay } from 'node:timers/promises'
import { IndexModel } from './testing/index-model.ts'
import { deadOf, drainTo, enqueue, laterOf, QUEUE } from './testing/queue-view.ts'
import { records } from './testing/records.ts'

const REPOS = Number(process.env.REPOS ?? 150)
const KILLS = Number(process.env.KILLS ?? 6)
const WITHIN_MS = 60_000 + REPOS * 200
const GROUP = 'repo_backfill_group'
/** Where a process dies by itself; later ones are killed from outside at any moment. */
const POINTS = ['append.before', 'chunk.between', 'append.after'] as const

test(
  'D3, D4: kill -9 of backfillers at random loses nothing, doubles nothing and leaves nothing pending',
  { timeout: WITHIN_MS + 60_000 + KILLS * 20_000 },
  async ({ redisUrl }) => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
    const random = new Random(seed)
    await using network = await FakeNetwork.start()
    const accounts = await populate(network, random)
    const redis = await connectRedis({ url: redisUrl, name: 'test' })
    try {
      const entries = accounts.map(({ did, pds, repo }) => {
        return { did, host: pds.host, rev: repo.rev, reason: 'listed' as const }
      })
      const index = new IndexModel()
      const env = (id: string, point: string): Record<string, string> => ({
        REDIS_URL: redisUrl,
        PLC_URL: network.plcUrl,
        ALLOW_PRIVATE_HOSTS: 'true',
        BACKFILLER_CONSUMER: id,
        BACKFILLER_RECLAIM_IDLE_MS: '2s',
        // Permits of the dead run out only after a quarter of a minute, and there are few hosts here.
        BACKFILLER_HOST_CONCURRENCY: '1000',
        // Slow enough that there is work left for every kill.
        BACKFILLER_CONCURRENCY: '10',
        BACKFILLER_RETRY_MS: '50ms',
        ...(point !== '' && { SLUICE_CRASH_POINTS: `${point}@${1 + random.below(point === 'chunk.between' ? 2 : 4)}` }),
      })
      const start = (id: string, point: string): Promise<Daemon> =>
        startDaemon({ role: 'backfiller', id, env: env(id, point), until: 'alive' })
      const deaths = { outside: 0, inside: 0, atWork: 0 }
      for (let kill = 0; kill < KILLS; kill++) {
        // Who is to die at a point does so alone: the other would take the work away on which it must die.
        const point = POINTS[kill] ?? ''
        // Work enough to come by the point, however fast the others were.
        if (point !== '') await enqueue(redis, entries.splice(0, REPOS / 6))
        const alive = await Promise.allSettled([start('one', point), ...(point === '' ? [start('two', '')] : [])])
        const [one] = alive
        if (point === '') {
          await enqueue(redis, entries.splice(0))
          await delay(300 + random.below(1_700))
        } else if (one?.status === 'fulfilled') await Promise.race([one.value.exited, delay(60_000)])
        if ((await redis.xPending(QUEUE, GROUP)).pending > 0) deaths.atWork++
        for (const started of alive) {
          // It may have died before it was seen alive.
          if (started.status === 'rejected' || !started.value.isRunning) deaths.inside++
          else deaths.outside++
          if (started.status === 'fulfilled') await killed(started.value)
        }
        await drainTo(redis, index)
      }
      // "two" stays dead; what it held is taken over.
      await using _ = await start('one', '')
      const problems = async (): Promise<string[]> => {
        await delay(REPOS / 5)
        if ((await drainTo(redis, index)) > 0) return ['events arrive']
        return [...(await leftovers(redis)), ...differences(accounts, index)].slice(0, 10)
      }
      await expect.poll(problems, { timeout: WITHIN_MS, interval: 20, message: `seed ${seed}` }).toEqual([])
      console.log(`${REPOS} repositories, ${index.events} events, killed ${JSON.stringify(deaths)}, seed ${seed}`)
      for (const account of accounts) expect(index.contents(account.did)).toEqual(account.contents())
      expect(deaths.atWork, 'killed while entries were under way').toBeGreaterThan(KILLS / 3)
      expect(deaths.inside, 'died at a crash point').toBe(POINTS.length)
      expect(deaths.outside, 'killed from outside').toBeGreaterThan(0)
      const chains = await readChains(
        redis,
        accounts.map(({ did }) => did),
      )
      expect(chains.map((chain) => chain?.record.rev)).toEqual(accounts.map(({ repo }) => repo.rev))
    } finally {
      redis.destroy()
    }
  },
)

async function killed(daemon: Daemon): Promise<void> {
  if (daemon.isRunning) await daemon.kill()
  await daemon[Symbol.asyncDispose]()
}

/**
 * Mostly small repositories, some of several chunks, at hosts that take a moment: so that kills find work under way.
 */
async function populate(network: FakeNetwork, random: Random): Promise<FakeAccount[]> {
  for (let i = 0; i < 10; i++) await network.addHost({ latencyMs: 20 + random.below(200), bytesPerSecond: 1_000_000 })
  const keys = Array.from({ length: 10 }, (_, i) => testKey(`crash ${i}`))
  return Array.from({ length: REPOS }, (_, i) => {
    const repo = new TestRepo(testDid(`crash ${random.seed} ${i}`), { key: random.pick(keys) })
    repo.write(records(random, random.chance(0.3) ? 600 + random.below(1_500) : random.below(60)))
    return network.addAccount(repo, random.pick(network.hosts))
  })
}

/** What is not done yet, or was left by the dead. */
async function leftovers(redis: Redis): Promise<string[]> {
  const [queued, pending, later, dead] = await Promise.all([
    redis.xLen(QUEUE),
    redis.xPending(QUEUE, GROUP),
    laterOf(redis),
    deadOf(redis),
  ])
  const counts = { queued, pending: pending.pending, later: later.size, dead: dead.size }
  return Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]))
}

/** Cheap enough to be asked often: the hosts live in this process too. */
function differences(accounts: readonly FakeAccount[], index: IndexModel): string[] {
  return accounts.flatMap(({ did, repo }) => {
    const { rev, records } = index.repo(did)
    if (rev === repo.rev && records.size === repo.records.size) return []
    return [`${did}: at ${rev} with ${records.size} records instead of ${repo.rev} with ${repo.records.size}`]
  })
}
