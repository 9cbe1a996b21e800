/**
 * The frame of every daemon: it starts configuration, log, metrics and health, runs the role's services, and ends the
 * process.
 *
 *     await runMain({
 *       config: ingesterConfig,
 *       known: VARIABLES,
 *       start: ({ config, log, resources }) => [new Firehose(…), new Repos(…)],
 *     })
 *
 * Exit codes: 0 drained · 1 failed · 78 the environment is wrong (EX_CONFIG; a restart will not help) · 130,
 * 143 a second signal.
 */
import { buildId } from './build-id.ts'
import { armedCrashPoints } from './crash-points.ts'
import { ConfigError, loadConfig, type ConfigOf, type Definition, type Options } from './config.ts'
import { maskConfig, secretsOf } from './config-mask.ts'
import { renderHelp } from './config-render.ts'
import { isAbort } from './errors.ts'
import { HealthServer } from './health.ts'
import { createLogger, type Logger } from './log.ts'
import { Metrics } from './metrics.ts'
import { Readiness } from './readiness.ts'
import { createRedactor } from './redact.ts'
import { runServices, type Service } from './service.ts'
import { Shutdown } from './shutdown.ts'
import type { runtimeOptions } from './shared-options.ts'

type RuntimeOptions = Options & ReturnType<typeof runtimeOptions>

export interface Role<O extends RuntimeOptions> {
  config: Definition<O>
  /** Variables of the other roles, since one env file may serve all. */
  known?: Iterable<string>
  /**
   * Builds the services. Work that may have to wait for the outside world belongs in the `run` of a service, which is
   * restarted after a TransientError. A wait here must end when `signal` aborts.
   * @throws FatalError for what no wait can cure
   */
  start(context: RoleContext<ConfigOf<Definition<O>>>): readonly Service[] | Promise<readonly Service[]>
}

export interface RoleContext<C> {
  config: C
  build: string
  log: Logger
  metrics: Metrics
  readiness: Readiness
  /** Aborts when the process is to stop. */
  signal: AbortSignal
  /** Resources that are closed after all services have ended, the last one first. */
  resources: AsyncDisposableStack
}

const EX_CONFIG = 78

/** Runs a role to its end and exits. Nothing else ends the process. */
export async function runMain<const O extends RuntimeOptions>(role: Role<O>): Promise<never> {
  process.exit(await mainCode(role))
}

async function mainCode<O extends RuntimeOptions>(role: Role<O>): Promise<number> {
  if (process.argv.includes('--help')) {
    process.stdout.write(renderHelp(role.config))
    return 0
  }
  try {
    const config = loadConfig(role.config, process.env, { known: role.known ?? [] })
    return await runRole(role, config)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}Run ${role.config.name} --help for all variables.\n`)
    return EX_CONFIG
  }
}

async function runRole<O extends RuntimeOptions>(role: Role<O>, config: ConfigOf<Definition<O>>): Promise<number> {
  const { logLevel, metricsPort, drainMs } = config as ConfigOf<Definition<RuntimeOptions>>
  const identity = { role: role.config.name, build: buildId() }
  const secrets = secretsOf(role.config, process.env)
  const log = createLogger({ ...identity, level: logLevel, secrets })
  const metrics = new Metrics(identity)
  const readiness = new Readiness(createRedactor(secrets))
  using shutdown = new Shutdown({ log, readiness, drainMs })

  async function run(resources: AsyncDisposableStack): Promise<void> {
    readiness.block('start', 'starting')
    const health = resources.use(await HealthServer.listen({ ...identity, metrics, readiness, port: metricsPort }))
    log.info({ metricsPort: health.port, config: effective(role.config) }, 'starting')
    if (armedCrashPoints().length > 0)
      log.warn(
        { points: armedCrashPoints() },
        'armed to crash at these points: for tests only, otherwise unset SLUICE_CRASH_POINTS',
      )
    const { signal } = shutdown
    const services = await role.start({ config, ...identity, log, metrics, readiness, resources, signal })
    readiness.clear('start')
    await runServices(services, { log, metrics, readiness, shutdown })
  }

  async function runAndClose(): Promise<void> {
    const resources = new AsyncDisposableStack()
    await run(resources).catch((error: unknown) => {
      // A stop that comes while `start` still waits for the outside world is no failure: there was nothing to lose yet.
      if (!shutdown.signal.aborted || !isAbort(error)) shutdown.fail('cannot start', error)
    })
    shutdown.begin('all services have ended')
    using _ = shutdown.waitFor('close')
    await resources.disposeAsync()
  }

  const code = await shutdown.exitCodeOf(runAndClose())
  log.info({ code }, 'stopped')
  return code
}

function effective(definition: Definition): Record<string, string> {
  const settings = maskConfig(definition, process.env)
  return Object.fromEntries(settings.map(({ name, value, source }) => [name, `${value} (${source})`]))
}
