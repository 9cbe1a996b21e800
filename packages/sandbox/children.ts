/**
 * Child processes under a registry: nothing we start survives us, and a test can ask what is still running.
 *
 * A child gets its own session (a Ctrl-C in the terminal reaches us alone; we decide the order of stopping), its output
 * goes to a `LogTail`, and the guard ends it when we die without having stopped it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { guardProcess, isGuard, unguardProcess } from './guard.ts'
import { LogTail } from './log-tail.ts'

export interface ChildOptions {
  /** Shown in errors: `postgres :55001`, `indexer one`. */
  name: string
  command: string
  args: readonly string[]
  env?: NodeJS.ProcessEnv
  cwd?: string
  /** Run as another user; only root may. */
  user?: { uid: number; gid: number }
  /** The signal that ends the process cleanly. The guard sends it too. */
  stopSignal?: NodeJS.Signals
}

/** How a process ended: a code, or a signal. */
export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/**
 * What any program gets of our environment, however little else it is given: where programs, the user's files and time
 * zones are, and where Node keeps what it has compiled (`scripts/run.mjs`). None of it changes what a program of ours
 * does.
 */
export function sharedEnvironment(): Record<string, string> {
  const { PATH, HOME, TZ, NODE_COMPILE_CACHE } = process.env
  return Object.fromEntries(
    Object.entries({ PATH, HOME, TZ, NODE_COMPILE_CACHE }).filter((entry): entry is [string, string] => !!entry[1]),
  )
}

const running = new Set<Child>()

/** The children of this process that are still running. */
export function runningChildren(): readonly Child[] {
  return [...running]
}

export class Child {
  readonly name: string
  readonly pid: number
  readonly log = new LogTail()
  readonly exited: Promise<Exit>
  readonly #process: ChildProcess
  readonly #stopSignal: NodeJS.Signals

  private constructor(process: ChildProcess, name: string, stopSignal: NodeJS.Signals) {
    this.name = name
    this.pid = process.pid!
    this.#process = process
    this.#stopSignal = stopSignal
    guardProcess(this.pid, stopSignal)
    running.add(this)
    process.stdout!.on('data', this.log.sink())
    process.stderr!.on('data', this.log.sink())
    // `close` is emitted after the last output, so an error message can include the child's last lines.
    this.exited = new Promise((resolve) => {
      process.on('exit', () => {
        running.delete(this)
        unguardProcess(this.pid)
      })
      process.on('close', (code, signal) => resolve({ code, signal }))
    })
  }

  /** @throws Error when the command cannot be run at all. */
  static async start(options: ChildOptions): Promise<Child> {
    const { command, args, env, cwd, user, name, stopSignal = 'SIGTERM' } = options
    const child = spawn(command, args, { env, cwd, ...user, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', (cause) => reject(new Error(`cannot start ${name} (${command})`, { cause })))
    })
    return new Child(child, name, stopSignal)
  }

  get isRunning(): boolean {
    return running.has(this)
  }

  /** Sends a signal. A signal that ends it at once (SIGKILL) is waited for; others return when sent. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#process.kill(signal)
    if (signal === 'SIGKILL') await this.exited
  }

  /** SIGSTOP: alive, holding its connections and locks, and silent. */
  pause(): void {
    this.#process.kill('SIGSTOP')
  }

  resume(): void {
    this.#process.kill('SIGCONT')
  }

  /** Ends it, by its own signal unless another is named; after `graceMs` it is killed, and the exit says so. */
  async stop({ graceMs = 20_000, signal = this.#stopSignal } = {}): Promise<Exit> {
    if (!this.isRunning) return this.exited
    this.#process.kill(signal)
    this.#process.kill('SIGCONT')
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), graceMs)
    const exit = await this.exited
    clearTimeout(timer)
    return exit
  }

  /**
   * Waits until `probe` returns true, trying every `everyMs`; an exit or `timeoutMs` without success ends it with an
   * error that carries the last lines of the log. A probe that throws has not succeeded.
   */
  async waitUntil(
    what: string,
    probe: () => Promise<boolean>,
    { timeoutMs = 60_000, everyMs = 25 } = {},
  ): Promise<void> {
    const deadline = Date.now() + timeoutMs
    let failure: unknown
    while (this.isRunning) {
      try {
        if (await probe()) return
      } catch (error) {
        failure = error
      }
      if (Date.now() > deadline) throw this.error(`not ${what} within ${timeoutMs} ms`, failure)
      await Promise.race([new Promise((resolve) => setTimeout(resolve, everyMs)), this.exited])
    }
    throw this.error(`ended (${describeExit(await this.exited)}) before it was ${what}`)
  }

  error(problem: string, cause?: unknown): Error {
    return new Error(`${this.name} ${problem}; its last lines:\n${this.log.tail() || '(none)'}`, { cause })
  }
}

export function describeExit({ code, signal }: Exit): string {
  return signal ? `signal ${signal}` : `code ${code}`
}

/**
 * The processes that this one started and that are alive, registered or not, as `pid command`. The guard is left out.
 * Elsewhere than on Linux only the registered ones are known.
 */
export function childProcesses(): string[] {
  let pids: string[]
  try {
    pids = readdirSync('/proc/self/task').flatMap((task) => {
      return readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean)
    })
  } catch {
    return runningChildren().map((child) => `${child.pid} ${child.name}`)
  }
  return pids.flatMap((pid) => describeProcess(pid))
}

/** `pid command` of a process. Empty for a guard, and for a process that has ended and waits to be reaped. */
function describeProcess(pid: string): string[] {
  try {
    const [, state] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
    if (state?.startsWith('Z')) return []
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
    return isGuard(commandLine) ? [] : [`${pid} ${commandLine}`]
  } catch {
    return []
  }
}
