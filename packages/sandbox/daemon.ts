/**
 * One of our daemons as a child process, as an operator runs it: its own environment, its own `METRICS_PORT`, signals.
 *
 * The environment is what the caller gives, plus PATH, HOME, TZ and NODE_COMPILE_CACHE, and nothing else. So an
 * `INDEXER_…` variable of the shell that runs the tests never changes their outcome.
 */
import { fileURLToPath } from 'node:url'
import { Child, describeExit, type Exit, sharedEnvironment } from './children.ts'
import { freePort, releasePort } from './ports.ts'

export type Role = 'ingester' | 'backfiller' | 'indexer'

export interface DaemonOptions {
  role: Role
  env: Record<string, string>
  /** Shown in errors beside the role, e.g. the consumer name. */
  id?: string
  /** Default `services/<role>/main.ts`. */
  entry?: string
  /** Node's own flags, e.g. `--max-old-space-size=256`. */
  nodeFlags?: readonly string[]
  /** Wait for `/ready` (default), or only for the process to answer on `/health`. */
  until?: 'ready' | 'alive'
  timeoutMs?: number
}

/** @throws Error with the daemon's last lines when it ends, or is not ready in time */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const { role, id, env, nodeFlags = [], until = 'ready', timeoutMs } = options
  const entry = options.entry ?? fileURLToPath(new URL(`../../services/${role}/main.ts`, import.meta.url))
  const port = env.METRICS_PORT ? Number(env.METRICS_PORT) : await freePort()
  const child = await Child.start({
    name: id ? `${role} ${id}` : role,
    command: process.execPath,
    args: [...nodeFlags, entry],
    env: { ...sharedEnvironment(), ...env, METRICS_PORT: String(port) },
  })
  const daemon = new Daemon(role, child, port)
  const path = until === 'ready' ? '/ready' : '/health'
  try {
    await child.waitUntil(until, async () => (await daemon.get(path)).status === 200, { timeoutMs })
  } catch (error) {
    if (child.isRunning) await child.kill()
    releasePort(port)
    throw error
  }
  return daemon
}

export class Daemon implements AsyncDisposable {
  readonly role: Role
  /** Where `/health`, `/ready` and `/metrics` answer. */
  readonly port: number
  readonly #child: Child

  constructor(role: Role, child: Child, port: number) {
    this.role = role
    this.port = port
    this.#child = child
  }

  get pid(): number {
    return this.#child.pid
  }

  get isRunning(): boolean {
    return this.#child.isRunning
  }

  /** The last lines it wrote. */
  get logLines(): readonly string[] {
    return this.#child.log.lines
  }

  /** Resolves when it ends, by itself or not. */
  get exited(): Promise<Exit> {
    return this.#child.exited
  }

  /** One of its HTTP endpoints; the body as text. Throws when nobody answers. */
  async get(path: '/health' | '/ready' | '/metrics'): Promise<{ status: number; body: string }> {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, { signal: AbortSignal.timeout(5_000) })
    return { status: response.status, body: await response.text() }
  }

  /**
   * The value of a metric: the sum over its series that carry `labels`. Zero series is an error, so that a test cannot
   * pass on a name that does not exist.
   */
  async metric(name: string, labels: Record<string, string> = {}): Promise<number> {
    const { body } = await this.get('/metrics')
    const values = parseMetric(body, name, labels)
    if (values.length === 0) throw this.#child.error(`has no metric ${name}${JSON.stringify(labels)}`)
    return values.reduce((sum, value) => sum + value, 0)
  }

  /** SIGTERM; resolves when it has drained. @throws Error when it did not exit with `code` */
  async stop({ code = 0, graceMs = 30_000 } = {}): Promise<void> {
    const exit = await this.#child.stop({ graceMs })
    releasePort(this.port)
    if (exit.code !== code) throw this.#child.error(`ended with ${describeExit(exit)} instead of code ${code}`)
  }

  /** SIGKILL waits for the end; any other signal returns when it is sent. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#child.kill(signal)
  }

  pause(): void {
    this.#child.pause()
  }

  resume(): void {
    this.#child.resume()
  }

  /** Stops it if it still runs; for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isRunning) await this.stop()
    else releasePort(this.port)
  }
}

/** The values of the series of `name` that carry all of `labels`, from Prometheus' text format. */
export function parseMetric(text: string, name: string, labels: Record<string, string>): number[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)/.exec(line)
    if (match?.[1] !== name) return []
    const found = new Map(
      [...(match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, value]) => [key, value]),
    )
    const matches = Object.entries(labels).every(([key, value]) => found.get(key) === value)
    return matches ? [Number(match[3])] : []
  })
}
