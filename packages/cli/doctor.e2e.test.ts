/**
 * Troubles that really happen, one after the other, to a system that really runs: doctor names each, says what mends
 * it, and after that nothing is wrong. A trouble that was not seen fails the test, and so does one that stays.
 */
import { randomUUID } from 'node:crypto'
import { DatabasePool } from '@sluice/database/pool.ts'
import { startDaemon, type Daemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { ensureGroup } from '@sluice/streams/entries.ts'
import { recordIncident } from '@sluice/streams/incidents.ts'
import type { FindingId } from './doctor/finding.ts'
import { findingsOf, idsOf } from './testing/doctor.ts'
import { applyMend } from './testing/mend.ts'
import { runCli } from './testing/run.ts'

interface Scene {
  redis: Redis
  env: Record<string, string>
  daemonEnv: Record<string, string>
  sql: (text: string) => Promise<unknown>
}

interface Trouble {
  id: FindingId
  /** Brings it about; what it returns undoes what a mend does not. */
  induce: (scene: Scene) => Promise<void | (() => Promise<void>)>
  /** For the mends that are acts, not commands. */
  mend?: (scene: Scene) => Promise<void>
  /** Seen through other settings than the daemons have. */
  env?: Record<string, string>
  args?: readonly string[]
  /** The daemons report what they did about it. */
  leavesIncidents?: boolean
}

const LIVE = 'firehose_live'
const GROUP = 'firehose_group'

/** Of the servers and the set-up. The indexer runs all the time. */
const TROUBLES: readonly Trouble[] = [
  { id: 'redis-eviction', induce: ({ redis }) => config(redis, 'maxmemory-policy', 'allkeys-lru') },
  { id: 'redis-persistence', induce: ({ redis }) => config(redis, 'appendonly', 'no') },
  {
    id: 'redis-no-limit',
    induce: async ({ redis }) => {
      await config(redis, 'maxmemory', '0')
      return () => config(redis, 'maxmemory', '256mb')
    },
  },
  {
    id: 'redis-near-limit',
    induce: async ({ redis }) => {
      const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1])
      await config(redis, 'maxmemory', String(Math.round(used / 0.7)))
      return () => config(redis, 'maxmemory', '256mb')
    },
  },
  {
    id: 'stream-wrong-type',
    induce: async ({ redis }) => void (await redis.set('repo_backfill', 'of another program')),
  },
  { id: 'group-unknown', induce: async ({ redis }) => void (await redis.xGroupCreate(LIVE, 'renamed', '0')) },
  {
    id: 'incidents',
    induce: ({ redis }) => recordIncident(redis, { kind: 'group-lost', role: 'test', what: 'it', action: 'made anew' }),
  },
  { id: 'postgres-read-only', induce: readOnly },
  {
    id: 'migrations-pending',
    induce: async (scene) => void (await scene.sql('select 1')),
    env: { DB_POSTGRES_SCHEMA: 'fresh' },
  },
  { id: 'index-missing', induce: async ({ sql }) => void (await sql('drop index bsky.like_creator_cursor_idx')) },
  { id: 'bulk-load', induce: async ({ env }) => void (await runCli(['bulk', 'begin'], env)) },
  {
    id: 'sequence-near-end',
    induce: async ({ sql }) => {
      await sql(`alter sequence bsky.notification_id_seq maxvalue 1000`)
      await sql(`select setval('bsky.notification_id_seq', 900)`)
    },
  },
  {
    id: 'postgres-collation',
    induce: async ({ sql }) =>
      void (await sql('alter table bsky.label alter column val type varchar collate "und-x-icu"')),
    mend: async ({ sql }) => void (await sql('alter table bsky.label alter column val type varchar collate "C"')),
  },
  {
    id: 'vacuum-behind',
    induce: async ({ sql }) => void (await sql('alter table bsky.post_agg set (autovacuum_enabled = false)')),
  },
  {
    id: 'accounts-behind',
    induce: async ({ sql }) => {
      // No indexer gets hold of it.
      await sql(`create function bsky.refuse() returns trigger language plpgsql as 'begin return null; end'`)
      await sql('create trigger refuse before update on bsky.account_check for each row execute function bsky.refuse()')
      const dueAt = new Date(Date.now() - 7_200_000).toISOString()
      await sql(
        `insert into bsky.account_check values ('did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', 'new', '${dueAt}', null, 0)`,
      )
    },
    mend: async ({ sql }) => {
      await sql('delete from bsky.account_check')
      await sql('drop function bsky.refuse() cascade')
    },
  },
  {
    id: 'settling-behind',
    induce: async ({ sql }) => {
      await sql(`create function bsky.refuse() returns trigger language plpgsql as 'begin return null; end'`)
      await sql('create trigger refuse before update on bsky.settle_later for each row execute function bsky.refuse()')
      const dueAt = new Date(Date.now() - 7_200_000).toISOString()
      await sql(
        `insert into bsky.settle_later values ('at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3kaaaaaaaaa2a', '', null, '${dueAt}', null, 0)`,
      )
    },
    mend: async ({ sql }) => {
      await sql('delete from bsky.settle_later')
      await sql('drop function bsky.refuse() cascade')
    },
  },
  { id: 'redis-away', induce: async () => {}, mend: async () => {}, env: { REDIS_URL: 'redis://127.0.0.1:1' } },
  {
    id: 'postgres-away',
    induce: async () => {},
    mend: async () => {},
    env: { DB_POSTGRES_URL: 'postgres://127.0.0.1:1/x' },
  },
  { id: 'config-streams', induce: async () => {}, mend: async () => {}, env: { INGESTER_FIREHOSE_STREAM: 'live' } },
  { id: 'config-unknown', induce: async () => {}, mend: async () => {}, env: { INDEXER_CONCURENCY: '4' } },
  {
    id: 'config-collections',
    induce: async () => {},
    mend: async () => {},
    env: { INGESTER_COLLECTIONS: 'app.bsky.feed.*' },
  },
  { id: 'labeler-silent', induce: async () => {}, mend: async () => {}, env: { LABELER_HOSTS: 'https://mod.example' } },
  { id: 'daemon-silent', induce: async () => {}, mend: async () => {}, env: { SLUICE_DAEMONS: 'http://127.0.0.1:1' } },
  {
    id: 'ingester-stopped',
    induce: async ({ redis }) => void (await redis.set(`${LIVE}:cursor:relay.example`, '7')),
    mend: async ({ redis }) => void (await redis.del(`${LIVE}:cursor:relay.example`)),
  },
  {
    id: 'cursor-old',
    env: { RELAY_HOSTS: 'wss://relay.example' },
    induce: async ({ redis }) => {
      await redis.set(`${LIVE}:cursor:relay.example`, '7')
      await redis.set(`${LIVE}:time:relay.example`, new Date(Date.now() - 2 * 86_400_000).toISOString())
    },
    mend: async ({ redis }) => void (await redis.del([`${LIVE}:cursor:relay.example`, `${LIVE}:time:relay.example`])),
  },
]

/** Of the consumers. */
const CONSUMER_TROUBLES: readonly Trouble[] = [
  {
    id: 'dead-letters',
    induce: async ({ redis }) => {
      await redis.xAdd(LIVE, '*', { event: 'garbage' })
      await expect.poll(() => redis.xLen(`${LIVE}_dlq`), { timeout: 20_000 }).toBe(1)
    },
    mend: async ({ env }) => {
      await runCli(['dlq', 'drop', '--all', '--yes'], env)
      await expect
        .poll(async () => (await runCli(['incidents', 'clear'], env)).stdout, { timeout: 20_000 })
        .toMatch(/[1-9]/)
    },
  },
  {
    id: 'consumer-dead',
    args: ['--lag', '0.5'],
    induce: async ({ redis }) => {
      const address = { stream: LIVE, group: GROUP, consumer: 'dead' }
      await ensureGroup(redis, address)
      // In one step: the indexer reads too.
      await redis
        .multi()
        .xAdd(LIVE, '*', accountEvent())
        .addCommand(['XREADGROUP', 'GROUP', GROUP, address.consumer, 'COUNT', '9', 'STREAMS', LIVE, '>'])
        .exec()
      expect((await redis.xPending(LIVE, GROUP)).pending).toBeGreaterThan(0)
      await new Promise((resolve) => setTimeout(resolve, 600))
    },
  },
  {
    id: 'consumer-collision',
    induce: async ({ daemonEnv }) => {
      const url = daemonEnv.REDIS_URL!
      const name = 'sluice-indexer-one-commands'
      const impostor = await connectRedis({ url, name })
      impostors.push(impostor)
    },
    mend: async () => impostors.pop()!.destroy(),
  },
  {
    id: 'lag',
    args: ['--lag', '1'],
    induce: async (scene) => blockIndexer(scene),
    mend: async () => release(),
  },
  {
    id: 'lock-waits',
    induce: async (scene) => {
      await blockIndexer(scene)
      const waiting = () => runCli(['doctor', '--json'], scene.env)
      await expect
        .poll(async () => (await waiting()).stdout, { timeout: 30_000, interval: 500 })
        .toContain('lock-waits')
    },
  },
  {
    id: 'backpressure',
    env: { INGESTER_FIREHOSE_STREAM_HIGH_WATER_MARK: '3' },
    induce: async (scene) => blockIndexer(scene, 5),
    mend: async () => release(),
  },
]

const impostors: Redis[] = []
let blocker: AsyncDisposableStack | undefined

test('doctor names each of the troubles, and sees health after the mend', async ({ database }) => {
  await using server = await startRedis({ maxmemory: '256mb' })
  const stores = { REDIS_URL: server.url(), DB_POSTGRES_URL: database }
  const daemonEnv = { ...stores, INDEXER_CONSUMER: 'one', SLUICE_BUILD_ID: 'v1', INDEXER_RECLAIM_IDLE_MS: '12s' }
  await using indexer = await startDaemon({ role: 'indexer', id: 'one', env: daemonEnv })
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  try {
    const env = { ...stores, SLUICE_DAEMONS: address(indexer) }
    const scene: Scene = { redis, env, daemonEnv, sql: (text) => queryOnce(database, text) }
    expect(await idsOf(env)).toEqual([])
    for (const trouble of TROUBLES) await goThrough(trouble, scene)
    // Whatever becomes of entries, the indexer reports it, up to a minute later.
    for (const trouble of CONSUMER_TROUBLES) await goThrough({ ...trouble, leavesIncidents: true }, scene)
    await stopAndStart(indexer, scene)
  } finally {
    redis.destroy()
    await release()
  }
})

async function goThrough(trouble: Trouble, scene: Scene): Promise<void> {
  const { id, induce, mend, env = {}, args = [], leavesIncidents } = trouble
  const undo = await induce(scene)
  const seen = await findingsOf({ ...scene.env, ...env }, args)
  const found = seen.find((finding) => finding.id === id)
  expect(found, `${id} among ${seen.map((finding) => finding.id).join(', ') || 'none'}`).toBeDefined()
  const mended = { ...scene.env, ...(id === 'migrations-pending' ? env : {}) }
  if (mend) await mend(scene)
  else
    expect(await applyMend(found!.mend, scene.redis, mended), `${id} has a command: ${found!.mend}`).toBeGreaterThan(0)
  if (undo) await undo()
  const rest = async (): Promise<string[]> => {
    if (leavesIncidents) await runCli(['incidents', 'clear'], scene.env)
    return idsOf(mended)
  }
  await expect.poll(rest, { timeout: 40_000, interval: 200, message: `after the mend of ${id}` }).toEqual([])
}

/** A stopped indexer, one of another build, and one that waits for its database. */
async function stopAndStart(indexer: Daemon, scene: Scene): Promise<void> {
  const { env, daemonEnv, redis } = scene
  {
    await using other = await startDaemon({
      role: 'indexer',
      id: 'two',
      env: { ...daemonEnv, INDEXER_CONSUMER: 'two', SLUICE_BUILD_ID: 'v2' },
    })
    const both = { ...env, SLUICE_DAEMONS: `${address(indexer)},${address(other)}` }
    expect(await idsOf(both)).toEqual(['version-mismatch'])
  }
  await indexer.stop()
  await redis.xAdd(LIVE, '*', accountEvent())
  expect(await idsOf({ ...env, SLUICE_DAEMONS: '', METRICS_PORT: '0' })).toContain('consumer-stopped')
  await using again = await startDaemon({ role: 'indexer', id: 'one', env: daemonEnv })
  const running = { ...env, SLUICE_DAEMONS: address(again) }
  await expect.poll(async () => idsOf(running), { timeout: 30_000, interval: 200 }).toEqual([])
  await using waiting = await startDaemon({
    role: 'indexer',
    id: 'three',
    env: { ...daemonEnv, INDEXER_CONSUMER: 'three', DB_POSTGRES_URL: 'postgres://127.0.0.1:1/x' },
    until: 'alive',
  })
  expect(await idsOf({ ...env, SLUICE_DAEMONS: address(waiting) })).toContain('daemon-not-ready')
  await waiting.kill()
}

/** Holds the lock that every batch needs, and gives the indexer something to do. */
async function blockIndexer({ redis, env }: Scene, entries = 1): Promise<void> {
  blocker = new AsyncDisposableStack()
  const pool = blocker.use(new DatabasePool({ url: env.DB_POSTGRES_URL!, schema: 'bsky', size: 1, role: 'forgotten' }))
  const client = await pool.acquire()
  blocker.defer(() => client.release(true))
  await client.query('begin')
  await client.query('lock table actor_sync in access exclusive mode')
  for (let i = 0; i < entries; i++) await redis.xAdd(LIVE, '*', accountEvent())
  await new Promise((resolve) => setTimeout(resolve, 1_200))
}

async function release(): Promise<void> {
  const held = blocker
  blocker = undefined
  await held?.disposeAsync()
}

async function readOnly({ sql, env }: Scene): Promise<void> {
  await sql(`alter database ${new URL(env.DB_POSTGRES_URL!).pathname.slice(1)} set default_transaction_read_only = on`)
}

async function config(redis: Redis, name: string, value: string): Promise<void> {
  await redis.configSet(name, value)
}

function accountEvent(): { event: string } {
  const did = `did:plc:${randomUUID()
    .replaceAll(/[^a-f2-7]/g, 'a')
    .slice(0, 24)}`
  return { event: JSON.stringify({ type: 'account', seq: 1, time: '2026-01-01T00:00:00.000Z', did, active: true }) }
}

function address({ port }: Daemon): string {
  return `http://127.0.0.1:${port}`
}
