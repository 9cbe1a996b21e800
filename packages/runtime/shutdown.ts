/**
 * How a process ends: what can cause it, how long it may take, and what the exit code is.
 *
 * The first SIGTERM or SIGINT, or a failure, aborts `signal`. Then everything has `drainMs` to end. `exitCodeOf` stops
 * waiting when that time is over, at a second signal, or at an uncaught error; then the process is to exit.
 */
import { constants } from 'node:os'
import { crashPoint } from './crash-points.ts'
import { describeError, FatalError } from './errors.ts'
import type { Logger } from './log.ts'
import type { Readiness } from './readiness.ts'

/**
 * A terminal sends Ctrl-C to the whole process group, and npm and pnpm pass on the signal that they got themselves. So
 * the same signal this soon after the first is an echo of it, not a second request.
 */
const ECHO_MS = 100

export interface ShutdownOptions {
  log: Logger
  readiness: Readiness
  drainMs: number
  /** A clock in ms. */
  now?: () => number
}

const emitter: NodeJS.EventEmitter = process

export class Shutdown implements Disposable {
  readonly #options: ShutdownOptions
  readonly #abort = new AbortController()
  readonly #forced = Promise.withResolvers<number>()
  readonly #waitingFor = new Set<string>()
  readonly #listeners: Record<string, (error: unknown) => void> = {
    SIGTERM: () => this.#onSignal('SIGTERM'),
    SIGINT: () => this.#onSignal('SIGINT'),
    uncaughtException: (error) => this.#onUncaught(error),
    unhandledRejection: (error) => this.#onUncaught(error),
  }
  readonly #now: () => number
  #deadline: NodeJS.Timeout | undefined
  #signalled: { name: NodeJS.Signals; atMs: number } | undefined
  #failed = false

  constructor(options: ShutdownOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    for (const [event, listener] of Object.entries(this.#listeners)) emitter.on(event, listener)
  }

  /** Aborts when everything is to stop. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /**
   * Waits for all work of the process, as long as it may take.
   * @returns 0 when it ended well; 1 when something failed, or the drain took too long; 128 + the signal's number after
   * a second signal. Work that still runs then ends with the process
   */
  async exitCodeOf(work: Promise<void>): Promise<number> {
    const ended = work.catch((error: unknown) => this.fail('failed', error)).then(() => (this.#failed ? 1 : 0))
    return Promise.race([this.#forced.promise, ended])
  }

  /** Notes that the exit waits for `name`. Disposing of the result ends that. */
  waitFor(name: string): Disposable {
    this.#waitingFor.add(name)
    return { [Symbol.dispose]: () => this.#waitingFor.delete(name) }
  }

  /** Begins the drain, once. */
  begin(reason: string): void {
    if (this.signal.aborted) return
    const { log, readiness, drainMs } = this.#options
    log.info({ reason, drainMs }, 'draining')
    readiness.block('drain', reason)
    this.#deadline = setTimeout(() => {
      log.error(
        { drainMs, hanging: [...this.#waitingFor] },
        'the drain took too long (SLUICE_DRAIN_MS): exiting without waiting for what hangs',
      )
      this.#forced.resolve(1)
    }, drainMs)
    crashPoint('drain.begin')
    this.#abort.abort()
  }

  /** Something ended as it must not: begins the drain; the exit code will be 1. */
  fail(what: string, error: unknown): void {
    this.#failed = true
    // A FatalError is written for the operator. For any other error the stack is logged too.
    const details = error instanceof FatalError ? { error: describeError(error) } : { err: error }
    this.#options.log.fatal(details, what)
    this.begin(what)
  }

  /** Stops listening. */
  [Symbol.dispose](): void {
    clearTimeout(this.#deadline)
    for (const [event, listener] of Object.entries(this.#listeners)) emitter.off(event, listener)
  }

  #onSignal(name: NodeJS.Signals): void {
    const atMs = this.#now()
    if (!this.#signalled) {
      this.#signalled = { name, atMs }
      this.begin(`received ${name}`)
    } else if (name !== this.#signalled.name || atMs - this.#signalled.atMs > ECHO_MS) {
      this.#options.log.warn({ hanging: [...this.#waitingFor] }, `received ${name} again, exiting at once`)
      this.#forced.resolve(128 + constants.signals[name])
    }
  }

  #onUncaught(error: unknown): void {
    this.#options.log.fatal(
      { err: error },
      'an error that nobody caught, exiting at once. This is a bug: report it with this line',
    )
    this.#forced.resolve(1)
  }
}
