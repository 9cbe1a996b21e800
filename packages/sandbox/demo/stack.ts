/**
 * What an operator runs, on this machine: PostgreSQL, Redis and the three daemons, each a process of its own.
 *
 * Everything is stopped in the order in which it was needed: daemons first, so that they drain, then the stores.
 */
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { describeExit, type Exit } from '../children.ts'
import { type Daemon, type Role, startDaemon } from '../daemon.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { type Redis, startRedis } from '../redis.ts'
import { SCHEMA } from '../template.ts'

export const DATABASE = 'appview'
/** The name of the one indexer, and of the one backfiller. */
export const CONSUMER = 'one'

/**
 * Of Redis, so that producers wait before the machine is out of memory: as infra/redis/redis.conf has it, or half of
 * what there is, since a rewrite of the append-only file may need as much again. It reserves nothing.
 */
const REDIS_MEMORY_MB = Math.floor(Math.min(8 * 1024, totalmem() / 2 ** 21))

/** The two stores, with an empty database for the AppView's tables. */
export class Stores implements AsyncDisposable {
  readonly postgres: Postgres
  readonly redis: Redis

  private constructor(postgres: Postgres, redis: Redis) {
    this.postgres = postgres
    this.redis = redis
  }

  static async start(dir?: string): Promise<Stores> {
    await using started = new AsyncDisposableStack()
    const postgres = started.use(await startPostgres(dir ? { dir: join(dir, 'postgres') } : {}))
    const maxmemory = `${REDIS_MEMORY_MB}mb`
    const redis = started.use(await startRedis({ maxmemory, ...(dir && { dir: join(dir, 'redis') }) }))
    const [found] = await postgres.query(`select 1 from pg_database where datname = $1`, [DATABASE])
    if (!found) await postgres.createDatabase(DATABASE)
    started.move()
    return new Stores(postgres, redis)
  }

  get databaseUrl(): string {
    return this.postgres.url(DATABASE)
  }

  /** Resolves when one of them ends by itself, with what it was and its last lines. Nothing here starts it again. */
  async ended(): Promise<string> {
    const { postgres, redis } = this
    return await Promise.race([
      postgres.exited.then((exit) => howItEnded('PostgreSQL', exit, postgres.log.split('\n'))),
      redis.exited.then((exit) => howItEnded('Redis', exit, redis.log.split('\n'))),
    ])
  }

  /** One statement in the AppView's database, over a connection of its own. */
  async query<Row extends object>(text: string): Promise<Row[]> {
    return await this.postgres.query<Row & Record<string, unknown>>(text, [], DATABASE)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.redis[Symbol.asyncDispose]()
    await this.postgres[Symbol.asyncDispose]()
  }
}

/** The daemons in the order of the data path. Those that write are started first, so that nothing waits for them. */
export async function startDaemons(stores: Stores, env: Record<string, string>): Promise<Daemons> {
  const common = { LOG_LEVEL: 'warn', REDIS_URL: stores.redis.url(), ...env }
  const roles: [Role, Record<string, string>][] = [
    ['indexer', { DB_POSTGRES_URL: stores.databaseUrl, DB_POSTGRES_SCHEMA: SCHEMA, INDEXER_CONSUMER: CONSUMER }],
    ['backfiller', { BACKFILLER_CONSUMER: CONSUMER }],
    ['ingester', {}],
  ]
  await using started = new AsyncDisposableStack()
  const daemons: Daemon[] = []
  for (const [role, own] of roles) {
    // The ingester is ready when its upstream answers, which on the real network is not for us to wait for.
    const until = role === 'ingester' ? 'alive' : 'ready'
    daemons.push(started.use(await startDaemon({ role, env: { ...common, ...own }, until })))
  }
  return new Daemons(daemons, started.move())
}

export class Daemons implements AsyncDisposable {
  readonly all: readonly Daemon[]
  readonly #stack: AsyncDisposableStack

  constructor(all: readonly Daemon[], stack: AsyncDisposableStack) {
    this.all = all
    this.#stack = stack
  }

  /** Resolves when one of them ends by itself, with what it was and its last lines. */
  async ended(): Promise<string> {
    return await Promise.race(
      this.all.map(async (daemon) => howItEnded(`the ${daemon.role}`, await daemon.exited, daemon.logLines)),
    )
  }

  /** Each drains and ends with 0. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}

const LINES = 20

function howItEnded(name: string, exit: Exit, lines: readonly string[]): string {
  return `${name} ended by itself (${describeExit(exit)}); its last lines:\n${lines.slice(-LINES).join('\n')}`
}
