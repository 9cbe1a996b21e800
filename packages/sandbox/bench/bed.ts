/**
 * What every measurement stands on: one PostgreSQL and one Redis, durable as in production, and databases that are clones of one
 * another, so that all contestants begin with the same rows.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createDatabaseStatement, type Postgres, startPostgres } from '../postgres.ts'
import { type Redis, startRedis } from '../redis.ts'
import { createTemplate, SCHEMA, TEMPLATE } from '../template.ts'
import { cpuSecondsOf, cpuSecondsOfTree } from './cpu.ts'
import { limitMemory } from './memory-limit.ts'

/** As docs/operations.md tells for a machine of 24 GB. A checkpoint by the clock would fall into one measurement and not into the next. */
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

/** Of a server with so little memory, its cache of files included. Huge pages would not count. */
function settingsFor(megabytes: number): Record<string, string> {
  return {
    shared_buffers: `${Math.round(megabytes * 0.375)}MB`,
    maintenance_work_mem: `${Math.round(megabytes * 0.09)}MB`,
    huge_pages: 'off',
  }
}

/** As in infra/redis. At Redis' own 64 MB the log would be rewritten, by a process that nobody's account shows, in the middle of each measurement. */
const REDIS_SETTINGS = { 'auto-aof-rewrite-min-size': '256mb' }

export interface Costs {
  seconds: number
  /** CPU seconds. */
  node: number
  postgres: number
  redis: number
  walBytes: number
  statements: number
  transactions: number
}

export interface BedOptions {
  /** Whether each measurement begins with a checkpoint: then every page that is touched goes into the WAL whole, the first time. */
  fromCheckpoint: boolean
  /** How much memory PostgreSQL may take, in MiB, its cache of files included (memory-limit.ts). Default: what the machine has. */
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

  static async make({ fromCheckpoint, postgresMb }: BedOptions): Promise<Bed> {
    await using started = new AsyncDisposableStack()
    let limit: Disposable | undefined
    started.defer(() => limit?.[Symbol.dispose]())
    const settings = postgresMb === undefined ? SETTINGS : { ...SETTINGS, ...settingsFor(postgresMb) }
    const postgres = started.use(await startPostgres({ settings }))
    // Before anything is touched.
    if (postgresMb !== undefined) limit = limitMemory(postgres.pid, postgresMb)
    const redis = started.use(await startRedis({ settings: REDIS_SETTINGS }))
    await createTemplate(postgres)
    await postgres.query('create extension if not exists pg_stat_statements')
    await postgres.query('create extension pg_prewarm')
    await postgres.query('create extension pg_prewarm', [], TEMPLATE)
    await touchSharedMemory(postgres)
    return new Bed(postgres, redis, fromCheckpoint, started.move())
  }

  /** Whether PostgreSQL's shared memory is in huge pages: it takes them when the machine has enough that are free (`vm.nr_hugepages`). */
  async hasHugePages(): Promise<boolean> {
    const [row] = await this.postgres.query<{ status: string }>(`select current_setting('huge_pages_status') as status`)
    return row!.status === 'on'
  }

  /** A clone of `template` (default: an empty schema) with its indexes and counters in shared memory, as a server has them that wrote them; its name and URL. */
  async database(template = TEMPLATE): Promise<{ name: string; url: string }> {
    const name = `bench_${this.#databases++}`
    // Copied as files: through the WAL, as the sandbox does for a durable server, a large one would take minutes.
    await this.postgres.query(createDatabaseStatement(name, template, { fast: true, major: this.postgres.major }))
    await this.postgres.query(PREWARM, [SCHEMA], name)
    return { name, url: this.postgres.url(name) }
  }

  /** One with millions of records takes gigabytes. */
  async drop({ name }: { name: string }): Promise<void> {
    await this.postgres.dropDatabase(name)
  }

  /** Makes files of the WAL to be written over, as every server has that is not new: making one means writing it twice. */
  async recycleWal(): Promise<void> {
    await this.postgres.query(
      `select pg_logical_emit_message(false, '', repeat('x', 1000000)) from generate_series(1, 4000)`,
    )
    await this.postgres.query('checkpoint')
  }

  /** What `act` costs. @param nodePids whose CPU counts as Node's; default this process */
  async costs(database: string, act: () => Promise<void>, nodePids: readonly number[] = [process.pid]): Promise<Costs> {
    // Ours, for what was made up before, would fall into the measurement: 10 µs an event.
    collectGarbage()
    if (this.#fromCheckpoint) await this.postgres.query('checkpoint')
    await this.postgres.query('select pg_stat_statements_reset()')
    const before = await this.#reading(database, nodePids)
    const startedAt = performance.now()
    await act()
    const seconds = (performance.now() - startedAt) / 1000
    const after = await this.#reading(database, nodePids)
    const [{ calls }] = (await this.postgres.query<{ calls: string }>(CALLS, [database])) as [{ calls: string }]
    return {
      seconds,
      node: after.node - before.node,
      postgres: after.postgres - before.postgres,
      redis: after.redis - before.redis,
      walBytes: after.wal - before.wal,
      statements: Number(calls),
      transactions: after.transactions - before.transactions,
    }
  }

  async #reading(database: string, nodePids: readonly number[]) {
    // The backends tell their statistics at most once a second.
    await this.postgres.query('select pg_stat_force_next_flush()')
    const [row] = await this.postgres.query<{ wal: string; transactions: string }>(READING, [database])
    return {
      wal: Number(row!.wal),
      transactions: Number(row!.transactions),
      node: nodePids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0),
      postgres: cpuSecondsOfTree(this.postgres.pid),
      redis: cpuSecondsOf(this.redis.pid),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started.disposeAsync()
  }
}

/**
 * Uses each page of shared memory once, as in a server that has been up for a while: on a virtual machine the host may have to find a page that is used for the first time (13 to 23 µs for 4 KB here).
 * What is read is a table whose files are holes, so that nothing is written. 36 s for 9 GB.
 */
async function touchSharedMemory(postgres: Postgres): Promise<void> {
  await postgres.query('create table touched ()')
  const [{ path, gigabytes }] = (await postgres.query(WHERE_TOUCHED)) as [{ path: string; gigabytes: number }]
  const files = Array.from({ length: gigabytes }, (_, n) => (n === 0 ? path : `${path}.${n}`))
  // As the server's user, in its data directory. A relation's files have 1 GB each.
  await postgres.query(`copy (select) to program 'cat > /dev/null && truncate -s 1G ${files.join(' ')}'`)
  await postgres.query(`select pg_prewarm('touched')`)
  await postgres.query('drop table touched')
}

const WHERE_TOUCHED = `
  select pg_relation_filepath('touched') as path, ceil(pg_size_bytes(current_setting('shared_buffers')) / 1024.0 ^ 3)::int as gigabytes`

function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  ;(runInNewContext('gc') as () => void)()
}

/** Rows of other tables are added at the end, or read one by one where they are. */
const PREWARM = `
  select sum(pg_prewarm(oid::regclass)) from pg_class where relnamespace = $1::regnamespace
    and (relkind = 'i' or (relkind = 'r' and (relname like '%\\_agg' or relname = 'actor_sync')))`

const READING = `
  select pg_current_wal_lsn() - '0/0' as wal, coalesce(sum(xact_commit), 0) as transactions
  from pg_stat_database where datname = $1`

const CALLS = `
  select coalesce(sum(calls), 0) as calls from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1`
