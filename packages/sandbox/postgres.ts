/**
 * A real PostgreSQL, embedded (18) or of another version (`postgres-home.ts`): one call starts it, nothing needs to be
 * installed, nothing is left behind.
 *
 * The cluster is UTF-8 with the builtin C.UTF-8 collation, before 17 with libc's (byte order, which the AppView's
 * ranges and `sortAt` assume), listens on 127.0.0.1 only, and has a random password. Every fault a test wants is a
 * method: kill, pause, restart.
 *
 * Measured on 2 cores: initdb 0.6 s, start 0.15 s, so no prepared data directory is kept for speed.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FatalError } from '@sluice/runtime/errors.ts'
import { Client, escapeIdentifier, type QueryResultRow } from 'pg'
import { Child, describeExit, type Exit } from './children.ts'
import { guardDirectory, unguardDirectory } from './guard.ts'
import { freePort, releasePort } from './ports.ts'
import { throwawayParent } from './memory-disk.ts'
import { dataDirectory, type PostgresHome, postgresHome, REACHABLE, throwawayDirectory } from './postgres-home.ts'

export interface PostgresOptions {
  /**
   * The data directory, which is kept after `stop` and used by the next start. Default: a temporary directory, which is
   * removed.
   */
  dir?: string
  /** Default: a free one. */
  port?: number
  /**
   * For tests that never crash the server: no fsync, nothing survives a power cut, and the data are in memory where
   * there is room (`memory-disk.ts`). Default: durable, as in production.
   */
  fast?: boolean
  /** `postgresql.conf` settings over the defaults here, e.g. `{ shared_buffers: '1GB' }`. */
  settings?: Record<string, string>
  /** How long to wait for a predecessor on the same directory that is still shutting down. */
  takeOverMs?: number
}

/** The settings of a production server, scaled to a laptop. */
const DURABLE = {
  max_connections: '200',
  shared_buffers: '256MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '15min',
  jit: 'off',
  // Keeps shared memory in the data directory, which is removed with the server. /dev/shm would keep the files that a
  // SIGKILL leaves, and has only 64 MB in a container.
  dynamic_shared_memory_type: 'mmap',
  TimeZone: 'UTC',
  log_timezone: 'UTC',
  cluster_name: 'sluice-sandbox',
}

const FAST = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  wal_level: 'minimal',
  max_wal_senders: '0',
  shared_buffers: '128MB',
}

/** @throws FatalError when this machine cannot run it; Error with the server's last lines when it does not start */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const home = postgresHome()
  // What is not synced need not be on a disk either.
  const parent = options.fast ? throwawayParent() : tmpdir()
  const base = options.dir ? dataDirectory(options.dir, home.user) : throwawayDirectory(home.user, REACHABLE, parent)
  if (!options.dir) guardDirectory(base)
  const data = join(base, 'data')
  try {
    if (!existsSync(join(data, 'PG_VERSION'))) await initdb(home, base, data)
    assertSameMajor(home, data)
    const port = options.port ?? (await freePort())
    const settings = { ...DURABLE, ...(options.fast ? FAST : {}), ...options.settings }
    const keep = options.dir !== undefined
    const server = new Postgres({ home, base, data, port, settings, keep, takeOverMs: options.takeOverMs ?? 15_000 })
    await server.start()
    return server
  } catch (error) {
    if (!options.dir) removeThrowaway(base)
    throw error
  }
}

const FAST_SHUTDOWN = 'SIGINT'
const IMMEDIATE_SHUTDOWN = 'SIGQUIT'

/**
 * The messages of a server that finds a predecessor on its directory: after a SIGKILL the backends hold the shared
 * memory for some milliseconds, or a guard is still stopping the last run's server.
 */
const PREDECESSOR = /pre-existing shared memory block .* is still in use|lock file "postmaster.pid" already exists/

/** What a server is made of. */
export interface Layout {
  home: PostgresHome
  base: string
  data: string
  port: number
  settings: Record<string, string>
  keep: boolean
  takeOverMs: number
}

export class Postgres implements AsyncDisposable {
  readonly port: number
  readonly #layout: Layout
  readonly #password: string
  #child: Child | undefined

  constructor(layout: Layout) {
    this.port = layout.port
    this.#layout = layout
    this.#password = readFileSync(passwordFile(layout.base), 'utf8').trim()
  }

  get layout(): Readonly<Layout> {
    return this.#layout
  }

  /** The server's major version, such as 18. */
  get major(): number {
    return this.#layout.home.major
  }

  /** The postmaster's process id. */
  get pid(): number {
    return this.#running.pid
  }

  /** Resolves when the server that runs now ends, by itself or not. */
  get exited(): Promise<Exit> {
    return this.#running.exited
  }

  /** The server's last lines. */
  get log(): string {
    return this.#child?.log.tail(200) ?? ''
  }

  /** Connection string of one database, as superuser. */
  url(database = 'postgres'): string {
    return `postgres://postgres:${this.#password}@127.0.0.1:${this.port}/${encodeURIComponent(database)}`
  }

  /** Starts a server that is not running: after `kill`, or after `stop`. Returns when it answers queries. */
  async start(): Promise<void> {
    const deadline = Date.now() + this.#layout.takeOverMs
    for (;;) {
      try {
        return await this.#startOnce()
      } catch (error) {
        if (!PREDECESSOR.test((error as Error).message)) throw error
        if (Date.now() > deadline) {
          throw new FatalError(`another PostgreSQL uses ${this.#layout.data}: stop that sandbox first`, {
            cause: error,
          })
        }
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
  }

  /**
   * Cuts open connections and ends the server. Data in a temporary directory are removed, so that server is ended
   * without the final checkpoint, which syncs every file (3 s for a few schemas).
   */
  async stop(): Promise<void> {
    const { keep, base } = this.#layout
    if (this.#child?.isRunning) {
      const exit = await this.#child.stop()
      if (keep && exit.code !== 0) throw this.#child.error(`did not stop cleanly (${describeExit(exit)})`)
    }
    if (!keep) removeThrowaway(base)
    releasePort(this.port)
  }

  /** SIGKILL (a crash: recovery from the WAL at the next start), SIGQUIT (immediate shutdown), or any other. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#running.kill(signal)
  }

  /** Clean shutdown and start on the same port; connections are cut. */
  async restart(): Promise<Exit> {
    const exit = await this.#running.stop({ signal: FAST_SHUTDOWN })
    await this.start()
    return exit
  }

  /** An empty database, or a clone of `template`, to which nobody may be connected. Returns its connection string. */
  async createDatabase(name: string, template = 'template1'): Promise<string> {
    const fast = this.#layout.settings.fsync === 'off'
    await this.query(createDatabaseStatement(name, template, { fast, major: this.major }))
    return this.url(name)
  }

  /** Drops a database, and ends the connections to it. */
  async dropDatabase(name: string): Promise<void> {
    await this.query(`DROP DATABASE IF EXISTS ${escapeIdentifier(name)} WITH (FORCE)`)
  }

  /** One statement as superuser, over a connection of its own. */
  async query<Row extends QueryResultRow>(text: string, values: unknown[] = [], database = 'postgres'): Promise<Row[]> {
    return queryOnce<Row>(this.url(database), text, values)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  get #running(): Child {
    if (!this.#child?.isRunning) throw new Error(`postgres :${this.port} is not running`)
    return this.#child
  }

  async #startOnce(): Promise<void> {
    const { home, data, port, settings, keep } = this.#layout
    const flags = { port: String(port), listen_addresses: '127.0.0.1', unix_socket_directories: '', ...settings }
    this.#child = await Child.start({
      name: `postgres :${port}`,
      command: join(home.bin, 'postgres'),
      args: ['-D', data, ...Object.entries(flags).flatMap(([key, value]) => ['-c', `${key}=${value}`])],
      env: { LC_ALL: 'C', PATH: process.env.PATH },
      cwd: '/',
      user: home.user,
      stopSignal: keep ? FAST_SHUTDOWN : IMMEDIATE_SHUTDOWN,
    })
    await this.#child.waitUntil('answering queries', async () => (await this.query('SELECT 1')).length === 1)
  }
}

/**
 * Without fsync, to copy the files is fastest: a clone of 70 tables with 210 indexes takes 26 ms, through the WAL 76
 * ms. With fsync the copy would force two checkpoints of the whole cluster. Before version 15 there is no other way
 * than to copy.
 */
export function createDatabaseStatement(
  name: string,
  template: string,
  { fast, major }: { fast: boolean; major: number },
): string {
  const strategy = major < 15 ? '' : ` STRATEGY ${fast ? 'FILE_COPY' : 'WAL_LOG'}`
  return `CREATE DATABASE ${escapeIdentifier(name)} TEMPLATE ${escapeIdentifier(template)}${strategy}`
}

/** One statement over a connection of its own. */
export async function queryOnce<Row extends QueryResultRow>(
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new Client({ connectionString: url, application_name: 'sluice-sandbox' })
  // The query reports a lost connection too. Without this listener the event would end the process.
  client.on('error', () => {})
  await client.connect()
  try {
    const { rows } = await client.query<Row>(text, values)
    return rows
  } finally {
    await client.end()
  }
}

/**
 * scram_iterations=1: a random password on loopback gains nothing from 4096 rounds, and each connection would pay for
 * them.
 */
async function initdb(home: PostgresHome, base: string, data: string): Promise<void> {
  // Renamed when complete, so that an interrupted initdb is never taken for a cluster.
  const partial = `${data}.partial`
  rmSync(partial, { recursive: true, force: true })
  const password = passwordFile(base)
  writeFileSync(password, randomBytes(16).toString('hex'), { mode: 0o600 })
  chmodSync(password, 0o600)
  if (home.user) chownSync(password, home.user.uid, home.user.gid)
  const authentication = ['-U', 'postgres', `--pwfile=${password}`, '-A', 'scram-sha-256']
  if (home.major >= 16) authentication.push('--set', 'scram_iterations=1')
  const collation =
    home.major >= 17
      ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C', '--encoding=UTF8']
      : ['--locale=C.UTF-8', '--encoding=UTF8']
  const args = ['-D', partial, ...authentication, ...collation, '--no-sync', '--no-instructions']
  const output = await run(join(home.bin, 'initdb'), args, home)
  if (output.code !== 0) throw new Error(`initdb failed (code ${output.code}):\n${output.text}`)
  renameSync(partial, data)
}

function run(command: string, args: string[], home: PostgresHome): Promise<{ code: number | null; text: string }> {
  return new Promise((resolve, reject) => {
    const env = { LC_ALL: 'C', PATH: process.env.PATH }
    const child = spawn(command, args, { cwd: '/', env, ...home.user, stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    const collect = (chunk: Buffer): void => void (text += chunk.toString())
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, text }))
  })
}

function assertSameMajor(home: PostgresHome, data: string): void {
  const found = readFileSync(join(data, 'PG_VERSION'), 'utf8').trim()
  if (String(home.major) === found) return
  throw new FatalError(
    `${data} was made by PostgreSQL ${found}, this is ${home.major}: remove that directory and start again`,
  )
}

function passwordFile(base: string): string {
  return join(base, 'password')
}

function removeThrowaway(base: string): void {
  rmSync(base, { recursive: true, force: true })
  unguardDirectory(base)
}
