/**
 * The environment of all measurements: one PostgreSQL and one Redis, durable as in production, and databases that are clones of one
 * another, so that all candidates begin with the same rows.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createDatabaseStatement, type Postgres, startPostgres } from '../postgres.ts'
import { type Redis, startRedis } from '../redis.ts'
import { createTemplate, SCHEMA, TEMPLATE } from '../template.ts'
import { cpuSecondsOf, cpuSecondsOfMachine, cpuSecondsOfTree } from './cpu.ts'
import { limitMemory } from './memory-limit.ts'

/** The settings of docs/operations.md for a machine of 24 GB, without checkpoints: one would fall into one measurement and not into the next. */
const SETTINGS = {
  // The indexes of five million events take 5.7 GB.
  shared_buffers: '9GB',
  maintenance_work_mem: '2GB',
  max_wal_size: '64GB',
  min_wal_size: '4GB',
  checkpoint_timeout: '1h',
  effective_io_concurrency: '32',
  autovacuum_naptime: '20s',
  shared_preload_libraries: 'pg_stat_statements',
  'pg_stat_statements.track': 'top',
}

/** As in infra/postgres. */
const CHECKPOINTS = { max_wal_size: '16GB', checkpoint_timeout: '15min' }

/** The settings of a server that has only so much memory, the kernel's cache of its files included. Without huge pages, since the limit would not count them. */
function settingsFor(megabytes: number): Record<string, string> {
  return {
    shared_buffers: `${Math.round(megabytes * 0.375)}MB`,
    maintenance_work_mem: `${Math.round(megabytes * 0.09)}MB`,
    huge_pages: 'off',
  }
}

/**
 * Redis does not rewrite its log here. It forks for that, and then each page that it changes is copied or at least
 * faulted in: with 120,000 entries in the stream, XDEL took 20 µs an entry after a rewrite and 2 to 4 without (two
 * windows each, in turn, on a busy machine). In production few entries wait, so there are few such pages.
 */
const REDIS_SETTINGS = { 'auto-aof-rewrite-percentage': '0' }

export interface Costs {
  seconds: number
  /** CPU seconds. */
  node: number
  postgres: number
  redis: number
  /** What all other processes took, this one among them: it should be little. */
  others: number
  walBytes: number
  statements: number
  transactions: number
}

export interface BedOptions {
  /** Whether each measurement begins right after a checkpoint. Then every page goes into the WAL whole when it is first changed. */
  fromCheckpoint: boolean
  /** Whether PostgreSQL makes checkpoints by itself, as in production. Default: only those that are asked for. */
  checkpoints?: boolean
  /** How much memory PostgreSQL may take, in MiB, the kernel's cache of its files included (memory-limit.ts). Default: no limit. */
  postgresMb?: number
}

export class Bed implements AsyncDisposable {
  readonly postgres: Postgres
  readonly redis: Redis
  readonly #fromCheckpoint: boolean
  readonly #started: AsyncDisposableStack
  #databases = 0

  private constructor(postgres: Postgres, redis: Redis, fromCheckpoint: boolean, started: AsyncDisposableStack) {
    this.postgres = postgres
    this.redis = redis
    this.#fromCheckpoint = fromCheckpoint
    this.#started = started
  }

  static async make({ fromCheckpoint, postgresMb, checkpoints = false }: BedOptions): Promise<Bed> {
    // By itself V8 collects a large heap that is idle, to shrink it. With the 1 to 2 GB of events that this process holds, that
    // took half of a core for 6 s in the middle of a measurement.
    setFlagsFromString('--no-memory-reducer')
    await using started = new AsyncDisposableStack()
    let limit: Disposable | undefined
    started.defer(() => limit?.[Symbol.dispose]())
    const settings = {
      ...SETTINGS,
      ...(checkpoints ? CHECKPOINTS : {}),
      ...(postgresMb === undefined ? {} : settingsFor(postgresMb)),
    }
    const postgres = started.use(await startPostgres({ settings }))
    // Before PostgreSQL touches its memory: pages that were touched earlier would not count.
    if (postgresMb !== undefined) limit = limitMemory(postgres.pid, postgresMb)
    const redis = started.use(await startRedis({ settings: REDIS_SETTINGS }))
    await createTemplate(postgres)
    await postgres.query('create extension if not exists pg_stat_statements')
    await postgres.query('create extension pg_prewarm')
    await postgres.query('create extension pg_prewarm', [], TEMPLATE)
    await touchSharedMemory(postgres)
    return new Bed(postgres, redis, fromCheckpoint, started.move())
  }

  /** Whether PostgreSQL's shared memory is in huge pages. It takes them when the machine has enough free ones (`vm.nr_hugepages`). */
  async hasHugePages(): Promise<boolean> {
    const [row] = await this.postgres.query<{ status: string }>(`select current_setting('huge_pages_status') as status`)
    return row!.status === 'on'
  }

  /** Makes a clone of `template` (default: an empty schema), and reads its indexes and counters into shared memory, as if this server had written them. Returns its name and URL. */
  async database(template = TEMPLATE): Promise<{ name: string; url: string }> {
    const name = `bench_${this.#databases++}`
    // Copied as files. The sandbox copies through the WAL for a durable server, which would take minutes for a large database.
    await this.postgres.query(createDatabaseStatement(name, template, { fast: true, major: this.postgres.major }))
    await this.postgres.query(PREWARM, [SCHEMA], name)
    return { name, url: this.postgres.url(name) }
  }

  /** Drops a clone: with millions of records it takes gigabytes. */
  async drop({ name }: { name: string }): Promise<void> {
    await this.postgres.dropDatabase(name)
  }

  /** Creates WAL files in advance, which the server then overwrites. A server that is not new has such files; to create one during a measurement means to write it twice. */
  async recycleWal(): Promise<void> {
    await this.postgres.query(
      `select pg_logical_emit_message(false, '', repeat('x', 1000000)) from generate_series(1, 4000)`,
    )
    await this.postgres.query('checkpoint')
  }

  /**
   * Resolves when nothing is left to do of what came before a measurement. The garbage of events that this process made
   * would cost 10 µs an event during the measurement.
   */
  async quiet(): Promise<void> {
    collectGarbage()
    await idle()
  }

  /** Measures the costs of `act`. @param nodePids the processes whose CPU time counts as Node's; default: this process */
  async costs(database: string, act: () => Promise<void>, nodePids: readonly number[] = [process.pid]): Promise<Costs> {
    await this.quiet()
    if (this.#fromCheckpoint) await this.postgres.query('checkpoint')
    await this.postgres.query('select pg_stat_statements_reset()')
    const before = await this.#reading(database, nodePids)
    const startedAt = performance.now()
    await act()
    const seconds = (performance.now() - startedAt) / 1000
    const after = await this.#reading(database, nodePids)
    const [{ calls }] = (await this.postgres.query<{ calls: string }>(CALLS, [database])) as [{ calls: string }]
    const [node, postgres, redis] = [
      after.node - before.node,
      after.postgres - before.postgres,
      after.redis - before.redis,
    ]
    return {
      seconds,
      node,
      postgres,
      redis,
      others: after.machine - before.machine - node - postgres - redis,
      walBytes: after.wal - before.wal,
      statements: Number(calls),
      transactions: after.transactions - before.transactions,
    }
  }

  async #reading(database: string, nodePids: readonly number[]) {
    // Backends report their statistics at most once a second, unless forced.
    await this.postgres.query('select pg_stat_force_next_flush()')
    const [row] = await this.postgres.query<{ wal: string; transactions: string }>(READING, [database])
    return {
      wal: Number(row!.wal),
      transactions: Number(row!.transactions),
      node: nodePids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0),
      postgres: cpuSecondsOfTree(this.postgres.pid),
      redis: cpuSecondsOf(this.redis.pid),
      machine: cpuSecondsOfMachine(),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started.disposeAsync()
  }
}

/**
 * Uses each page of shared memory once, as a server has that has been up for a while. On a virtual machine the host may have to allocate a page when it is used for the first time (13 to 23 µs for 4 KB here).
 * Reads a table whose files are sparse, so that nothing is written. Takes 36 s for 9 GB.
 */
async function touchSharedMemory(postgres: Postgres): Promise<void> {
  await postgres.query('create table touched ()')
  const [{ path, gigabytes }] = (await postgres.query(WHERE_TOUCHED)) as [{ path: string; gigabytes: number }]
  const files = Array.from({ length: gigabytes }, (_, n) => (n === 0 ? path : `${path}.${n}`))
  // Runs as the server's user, in its data directory. Each file of a relation has 1 GB.
  await postgres.query(`copy (select) to program 'cat > /dev/null && truncate -s 1G ${files.join(' ')}'`)
  await postgres.query(`select pg_prewarm('touched')`)
  await postgres.query('drop table touched')
}

const WHERE_TOUCHED = `
  select pg_relation_filepath('touched') as path, ceil(pg_size_bytes(current_setting('shared_buffers')) / 1024.0 ^ 3)::int as gigabytes`

/**
 * Resolves when the machine has nothing to do, or after half a minute more. V8 keeps the memory that it has collected for 8 s
 * and then gives it back, and the kernel reports it to the host: that took 13 % of a core from the first 15 s of a
 * measurement, and another 10 %.
 */
async function idle(): Promise<void> {
  await sleep(10_000)
  for (let looks = 0; looks < 60; looks++) {
    const before = cpuSecondsOfMachine()
    await sleep(500)
    if (cpuSecondsOfMachine() - before < 0.05) return
  }
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  ;(runInNewContext('gc') as () => void)()
}

/** Indexes and counter tables only. Rows of other tables are appended, or read singly. */
const PREWARM = `
  select sum(pg_prewarm(oid::regclass)) from pg_class where relnamespace = $1::regnamespace
    and (relkind = 'i' or (relkind = 'r' and (relname like '%\\_agg' or relname = 'actor_sync')))`

const READING = `
  select pg_current_wal_lsn() - '0/0' as wal, coalesce(sum(xact_commit), 0) as transactions
  from pg_stat_database where datname = $1`

const CALLS = `
  select coalesce(sum(calls), 0) as calls from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1`
