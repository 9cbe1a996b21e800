/**
 * A real Redis (or Valkey) server, set up as Sluice demands it in production: AOF, `noeviction`, loopback only.
 *
 * Every fault a test wants is a method: kill (the AOF is read back), pause, restart, a small `maxmemory`.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from 'redis'
import { Child, describeExit, type Exit } from './children.ts'
import { guardDirectory, unguardDirectory } from './guard.ts'
import { freePort, releasePort } from './ports.ts'
import { redisServer } from './redis-server.ts'

export interface RedisOptions {
  /** Default: a free one. */
  port?: number
  /**
   * The directory of the AOF, which is kept after `stop` and read by the next start. Default: a temporary directory,
   * which is removed.
   */
  dir?: string
  /** `512mb`; default: no limit. */
  maxmemory?: string
  /** Default true: AOF, fsynced every second. */
  appendonly?: boolean
  /** Further `redis.conf` settings, e.g. `{ 'proto-max-bulk-len': '1mb' }`. */
  settings?: Record<string, string>
}

/** @throws FatalError when there is no server to be had; it says what to install */
export async function startRedis(options: RedisOptions = {}): Promise<Redis> {
  const { command } = redisServer()
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'sluice-redis-'))
  mkdirSync(dir, { recursive: true })
  if (!options.dir) guardDirectory(dir)
  const port = options.port ?? (await freePort())
  const { maxmemory = '0', appendonly = true, settings } = options
  const server = new Redis({
    command,
    port,
    dir,
    keep: options.dir !== undefined,
    settings: { ...BASE, maxmemory, appendonly: appendonly ? 'yes' : 'no', ...settings },
  })
  try {
    await server.start()
  } catch (error) {
    server.discard()
    throw error
  }
  return server
}

const BASE = {
  bind: '127.0.0.1',
  appendfsync: 'everysec',
  save: '',
  'maxmemory-policy': 'noeviction',
  databases: '256',
  daemonize: 'no',
}

interface Layout {
  command: string
  port: number
  dir: string
  keep: boolean
  settings: Record<string, string>
}

export class Redis implements AsyncDisposable {
  readonly port: number
  readonly #layout: Layout
  #child: Child | undefined

  constructor(layout: Layout) {
    this.port = layout.port
    this.#layout = layout
  }

  get pid(): number {
    return this.#running.pid
  }

  /** Resolves when the server that runs now ends, by itself or not. */
  get exited(): Promise<Exit> {
    return this.#running.exited
  }

  get log(): string {
    return this.#child?.log.tail(200) ?? ''
  }

  /** Connection string of one logical database. */
  url(database = 0): string {
    return `redis://127.0.0.1:${this.port}/${database}`
  }

  /** Starts a server that is not running: after `kill`, or after `stop`. Returns when the AOF is loaded. */
  async start(): Promise<void> {
    const { command, port, dir, settings } = this.#layout
    const flags = { port: String(port), dir, ...settings }
    this.#child = await Child.start({
      name: `redis :${port}`,
      command,
      args: Object.entries(flags).flatMap(([key, value]) => [`--${key}`, value]),
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
      cwd: '/',
    })
    await this.#child.waitUntil('answering', () => answers(this.url()))
  }

  /** Ends the server cleanly (the AOF is flushed). Data in a temporary directory are removed. */
  async stop(): Promise<void> {
    if (this.#child?.isRunning) {
      // While it writes its first AOF, as a replica that has just been synchronised does, it refuses to stop and
      // forgets that it was asked.
      const child = this.#child
      const again = setInterval(() => void child.kill('SIGTERM'), 1_000)
      const exit = await child.stop().finally(() => clearInterval(again))
      if (exit.code !== 0) throw this.#child.error(`did not stop cleanly (${describeExit(exit)})`)
    }
    this.discard()
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#running.kill(signal)
  }

  /** SIGSTOP: connections stay open and nothing answers. */
  pause(): void {
    this.#running.pause()
  }

  resume(): void {
    this.#running.resume()
  }

  /** Clean stop and start on the same port. */
  async restart(): Promise<void> {
    await this.#running.stop()
    await this.start()
  }

  /** Gives the port and the temporary directory back. To be called when the server does not run any more. */
  discard(): void {
    const { dir, keep } = this.#layout
    if (!keep) {
      rmSync(dir, { recursive: true, force: true })
      unguardDirectory(dir)
    }
    releasePort(this.port)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  get #running(): Child {
    if (!this.#child?.isRunning) throw new Error(`redis :${this.port} is not running`)
    return this.#child
  }
}

/** False while the AOF is being loaded; throws while nobody listens. */
async function answers(url: string): Promise<boolean> {
  const client = createClient({ url, socket: { reconnectStrategy: false, connectTimeout: 1_000 } })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.ping()) === 'PONG'
  } finally {
    client.destroy()
  }
}

/** The version the server reports, such as `7.0.15`; the features a test may expect depend on it. */
export function redisVersion(): string {
  const { command } = redisServer()
  const output = spawnSync(command, ['--version'], { encoding: 'utf8' }).stdout
  return /v=(\d+\.\d+\.\d+)/.exec(output)?.[1] ?? output.trim()
}
