/**
 * The system that is tested: an ingester, two backfillers and two indexers, each a process, with a Redis (AOF) and a
 * PostgreSQL of their own. A fault that ends a daemon says so before; a daemon that ends by itself is a surprise, and
 * the run has failed.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { DatabasePool } from '@sluice/database/pool.ts'
import type { CrashPoint } from '@sluice/runtime/crash-points.ts'
import { type Daemon, type Role, startDaemon } from '@sluice/sandbox/daemon.ts'
import { type Postgres, startPostgres } from '@sluice/sandbox/postgres.ts'
import { type Redis, startRedis } from '@sluice/sandbox/redis.ts'
import { SmallDisk } from '@sluice/sandbox/small-disk.ts'
import { migrateAll, SCHEMA } from '@sluice/sandbox/template.ts'
import { retryKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis, type Redis as RedisClient } from '@sluice/streams/connection.ts'

export const DATABASE = 'simulated'
export const STREAMS = ['firehose_live', 'firehose_backfill', 'label_live', 'repo_backfill'] as const
export type StreamName = (typeof STREAMS)[number]

const GROUPS: Record<StreamName, string> = {
  firehose_live: 'firehose_group',
  firehose_backfill: 'firehose_group',
  label_live: 'label_group',
  repo_backfill: 'repo_backfill_group',
}

/** What the daemons read from: a simulated world, or a real network. */
export interface Upstream {
  relays: readonly UpstreamHost[]
  labeler: UpstreamHost
  network: { plcUrl: string }
}

interface UpstreamHost {
  url: string
  /** As in cursors. */
  host: string
  /** Of the last event that it has sent. */
  seq: number
}

/** One place for a process, whoever lives in it. */
export interface Slot {
  readonly name: string
  readonly role: Role
  readonly env: Record<string, string>
  daemon: Daemon | undefined
  /** It is being ended, so its end is no news. */
  isExpected: boolean
  /** It lives on, while others are ended. */
  isSpared: boolean
}

export interface SystemOptions {
  world: Upstream
  env?: Record<string, string>
  appendfsync?: 'always' | 'everysec'
  /** Of Redis, such as `1gb`; default: no limit. */
  maxmemory?: string
  nodeFlags?: readonly string[]
  /** The tables lie on a disk that can be made full, if this machine lets us. */
  smallDisk?: boolean
}

export class System implements AsyncDisposable {
  readonly redis: Redis
  readonly postgres: Postgres
  /** Where the tables are, when it was asked for and can be had. */
  readonly disk: SmallDisk | undefined
  readonly slots: readonly Slot[]
  /** Ends that nobody asked for, with the last lines. */
  readonly surprises: string[] = []
  /** Our own connection to Redis, for looking on and for injecting. */
  readonly client: RedisClient
  readonly #nodeFlags: readonly string[]

  private constructor(
    { redis, postgres, client, disk }: Pick<System, 'redis' | 'postgres' | 'client' | 'disk'>,
    { world, env = {}, nodeFlags = [] }: SystemOptions,
  ) {
    this.redis = redis
    this.postgres = postgres
    this.disk = disk
    this.client = client
    this.#nodeFlags = nodeFlags
    const common = { ...commonEnv(world), REDIS_URL: redis.url(), ...env }
    const slot = (role: Role, id: string, own: Record<string, string>): Slot => ({
      name: id === '' ? role : `${role} ${id}`,
      role,
      env: pickOwn(role, { ...common, ...own }),
      daemon: undefined,
      isExpected: false,
      isSpared: false,
    })
    const indexer = { DB_POSTGRES_URL: postgres.url(DATABASE), DB_POSTGRES_SCHEMA: SCHEMA }
    this.slots = [
      slot('indexer', 'one', { ...indexer, INDEXER_CONSUMER: 'one' }),
      slot('indexer', 'two', { ...indexer, INDEXER_CONSUMER: 'two' }),
      slot('backfiller', 'one', { BACKFILLER_CONSUMER: 'one' }),
      slot('backfiller', 'two', { BACKFILLER_CONSUMER: 'two' }),
      slot('ingester', '', {}),
    ]
  }

  /** The stores; `startAll` starts the daemons. */
  static async start(options: SystemOptions): Promise<System> {
    await using started = new AsyncDisposableStack()
    const { appendfsync = 'always', maxmemory, smallDisk = false } = options
    const disk = smallDisk ? SmallDisk.mount() : undefined
    if (disk) started.use(disk)
    const [redis, postgres] = await Promise.all([
      startRedis({ ...(maxmemory && { maxmemory }), settings: { appendfsync } }).then((server) => started.use(server)),
      // What a killed server wrote is with the kernel: only a power cut, which nothing here does, asks for fsync.
      startPostgres({ settings: { fsync: 'off', shared_buffers: '64MB' }, takeOverMs: 120_000 }).then((server) =>
        started.use(server),
      ),
    ])
    if (disk) await postgres.query(`create tablespace small location '${disk.path}'`)
    await postgres.query(`create database ${DATABASE}${disk ? ' tablespace small' : ''}`)
    await migrateAll(postgres.url(DATABASE))
    const client = await connectRedis({ url: redis.url(), name: 'simulator' })
    started.move()
    return new System({ redis, postgres, client, disk }, options)
  }

  async startAll(): Promise<void> {
    await Promise.all(this.slots.map((slot) => this.startSlot(slot)))
  }

  /** @param point where the process is to die by itself; then it may be gone when this returns */
  async startSlot(slot: Slot, point?: { name: CrashPoint; passes: number }): Promise<void> {
    const env = { ...slot.env, ...(point && { SLUICE_CRASH_POINTS: `${point.name}@${point.passes}` }) }
    slot.isExpected = point !== undefined
    const { role, name: id } = slot
    const daemon = await startDaemon({ role, id, env, nodeFlags: this.#nodeFlags, until: 'alive', timeoutMs: 300_000 })
    slot.daemon = daemon
    void daemon.exited.then(async ({ code, signal }) => {
      if (slot.daemon === daemon && !slot.isExpected)
        this.surprises.push(
          `${slot.name} ended by itself (${signal ?? code}):\n${daemon.logLines.slice(-12).join('\n')}`,
        )
      return daemon[Symbol.asyncDispose]()
    })
  }

  /** Drains, and ends with 0. */
  async stopSlot(slot: Slot): Promise<void> {
    slot.isExpected = true
    if (slot.daemon?.isRunning) await slot.daemon.stop({ graceMs: 120_000 })
  }

  /** What it still has to do, as lines; none: all is read, applied and acked. */
  async leftovers(world: Upstream): Promise<string[]> {
    const redis = this.client
    const lines: string[] = []
    for (const stream of STREAMS) {
      const length = await redis.xLen(stream)
      if (length > 0) lines.push(`${length} entries in ${stream}`)
      const pending = await redis.xPending(stream, GROUPS[stream]).catch(() => ({ pending: 0 }))
      if (pending.pending > 0) lines.push(`${pending.pending} pending in ${stream}`)
    }
    const [waiting, urgent] = await Promise.all([
      redis.zCard(retryKey('repo_backfill')),
      redis.xLen('repo_backfill_priority'),
    ])
    if (waiting + urgent > 0) lines.push(`${waiting + urgent} repositories wait for another try`)
    for (const [stream, relays] of [
      ['firehose_live', world.relays],
      ['label_live', [world.labeler]],
    ] as const) {
      for (const relay of relays) {
        const cursor = await redis.get(`${stream}:cursor:${relay.host}`)
        if (cursor !== String(relay.seq)) lines.push(`${stream} of ${relay.host} is at ${cursor} of ${relay.seq}`)
      }
    }
    return lines
  }

  openDatabase(): DatabasePool {
    const url = this.postgres.url(DATABASE)
    return new DatabasePool({ url, schema: SCHEMA, size: 2, role: 'simulator', acquireMs: 300_000 })
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.slots.map((slot) => this.stopSlot(slot)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const slot of this.slots) {
      slot.isExpected = true
      if (slot.daemon?.isRunning) await slot.daemon.kill()
    }
    this.client.destroy()
    // Whoever was told of the end of a daemon gives its port back.
    await delay(20)
    await Promise.all([this.redis[Symbol.asyncDispose](), this.postgres[Symbol.asyncDispose]()])
    this.disk?.[Symbol.dispose]()
  }
}

function commonEnv({ relays, labeler, network }: Upstream): Record<string, string> {
  return {
    LOG_LEVEL: 'warn',
    // A start costs 0.6 s of a processor instead of 1.0 s, and a run has 20 of them.
    NODE_COMPILE_CACHE: fileURLToPath(new URL('../../node_modules/.cache/simulator/', import.meta.url)),
    PLC_URL: network.plcUrl,
    ALLOW_PRIVATE_HOSTS: 'true',
    SLUICE_DRAIN_MS: '90s',
    RELAY_HOSTS: relays.map(({ url }) => url).join(','),
    LABELER_HOSTS: labeler.url,
    INGESTER_INITIAL_CURSOR: '0',
    INGESTER_IDLE_MS: '2s',
    INGESTER_VERIFY_THREADS: '1',
    INGESTER_BATCH_SIZE: '100',
    BACKFILLER_RECLAIM_IDLE_MS: '2s',
    BACKFILLER_RETRY_MS: '100ms',
    BACKFILLER_RETRY_MAX_MS: '2s',
    // Permits of the dead run out only after a minute.
    BACKFILLER_HOST_CONCURRENCY: '1000',
    INDEXER_RECLAIM_IDLE_MS: '2s',
    INDEXER_BATCH_SIZE: '200',
    INDEXER_HANDLES: 'false',
  }
}

/** A variable of another daemon stops a start: each gets what it knows. */
function pickOwn(role: Role, env: Record<string, string>): Record<string, string> {
  const others = ['INGESTER_', 'BACKFILLER_', 'INDEXER_', 'RELAY_', 'LABELER_'].filter((prefix) => {
    return role === 'ingester' ? !/^(INGESTER|RELAY|LABELER)_/.test(prefix) : prefix !== `${role.toUpperCase()}_`
  })
  return Object.fromEntries(Object.entries(env).filter(([name]) => !others.some((prefix) => name.startsWith(prefix))))
}
