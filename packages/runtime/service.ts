/**
 * The contract of everything that runs, and the function that runs it.
 *
 * A service runs until its signal aborts. Then it takes no more work, finishes what it has taken, persists, and
 * returns. If it ends in another way, that decides what follows:
 *
 * | ends with                             | then                                                                |
 * |---------------------------------------|---------------------------------------------------------------------|
 * | `TransientError`                      | it is run again after a backoff; meanwhile the process is not ready |
 * | `FatalError`, or an error of no class | the other services are drained; exit code 1                         |
 * | return                                | a bug, like an error of no class                                    |
 */
import { Backoff, DEFAULT_BACKOFF, retryAfterMs, sleep, type BackoffPolicy } from './backoff.ts'
import { describeError, FatalError, isAbort, TransientError } from './errors.ts'
import { logRetry, type Logger } from './log.ts'
import type { CounterOf, Metrics } from './metrics.ts'
import type { Readiness } from './readiness.ts'
import type { Shutdown } from './shutdown.ts'

export interface Service {
  /** Unique within the process, fit for a metric label. */
  readonly name: string
  /** May be called again after it threw a TransientError; never called twice at the same time. */
  run(signal: AbortSignal): Promise<void>
}

export interface RunOptions {
  log: Logger
  metrics: Metrics
  readiness: Readiness
  /** Its signal stops the services; failures of services are reported to it. */
  shutdown: Shutdown
  restart?: BackoffPolicy
}

/** Runs the services until all have ended for good. Never throws: the outcome is reported to `shutdown`. */
export async function runServices(services: readonly Service[], options: RunOptions): Promise<void> {
  const restarts = options.metrics.counter({
    name: 'sluice_service_restarts_total',
    help: 'How often a part of this process was restarted after a fault of its surroundings. The log says which fault.',
    labels: { service: services.map(({ name }) => name) },
  })
  options.log.info({ services: services.map(({ name }) => name) }, 'running')
  const supervised = services.map(async (service) => {
    using _ = options.shutdown.waitFor(service.name)
    await supervise(service, { ...options, restarts })
  })
  await Promise.all(supervised)
}

interface Supervision extends RunOptions {
  restarts: CounterOf<{ service: readonly string[] }>
}

/** Resolves when the service has ended for good; a failure is reported to `shutdown`. */
async function supervise(service: Service, options: Supervision): Promise<void> {
  const { log, readiness, shutdown, restarts, restart = DEFAULT_BACKOFF } = options
  const { signal } = shutdown
  const { name } = service
  const condition = `service ${name}`
  const backoff = new Backoff(restart)
  for (;;) {
    backoff.healthy()
    const failure = await runOnce(service, signal, restart.healthyAfterMs, () => readiness.clear(condition))
    if (!failure) return end(service, options)
    const { error } = failure
    if (signal.aborted && isAbort(error)) return
    if (!(error instanceof TransientError)) return shutdown.fail(`${name} failed`, error)
    if (signal.aborted) return shutdown.fail(`${name} could not finish what it had taken`, error)
    const delayMs = backoff.nextMs() + retryAfterMs(error)
    restarts.inc(1, { service: name })
    readiness.block(condition, `starts again after: ${describeError(error)}`)
    logRetry(log, delayMs, `${name} failed`, error)
    await sleep(delayMs, signal).catch(() => {})
    if (signal.aborted) return
  }
}

/**
 * @returns how the service failed, or undefined when it ended
 * @param onWell called when the service has ended or has run for `wellAfterMs`
 */
async function runOnce(service: Service, signal: AbortSignal, wellAfterMs: number, onWell: () => void) {
  const timer = setTimeout(onWell, wellAfterMs)
  try {
    await service.run(signal)
    onWell()
    return undefined
  } catch (error) {
    return { error }
  } finally {
    clearTimeout(timer)
  }
}

function end({ name }: Service, { log, shutdown }: Supervision): void {
  if (shutdown.signal.aborted) log.info({ service: name }, 'drained')
  else
    shutdown.fail(
      `${name} failed`,
      new FatalError('it ended without being asked to. This is a bug: report it with the lines before'),
    )
}
