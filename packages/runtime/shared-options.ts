/** Options that several services have. A service spreads them into its own literal. */
import type { Options } from './config.ts'
import { LEVELS } from './log.ts'

/**
 * The options that `runMain` needs in every role. The default metrics port differs by role, so that all roles can run
 * on one machine.
 */
export function runtimeOptions<const Port extends number>(metricsPort: Port) {
  return {
    metricsPort: {
      env: 'METRICS_PORT',
      type: 'integer',
      min: 0,
      max: 65_535,
      default: metricsPort,
      help: 'Port of /health, /ready and /metrics. 0: any free port.',
    },
    logLevel: {
      env: 'LOG_LEVEL',
      type: 'enum',
      values: LEVELS,
      default: 'info',
      help: 'The least severe log lines to write.',
    },
    drainMs: {
      env: 'SLUICE_DRAIN_MS',
      type: 'duration',
      min: 1,
      max: 24 * 3_600_000,
      unitBelow: 1_000,
      default: 25_000,
      help: 'How long a stop may take to finish the work that was begun. Keep it below the grace period of the platform (Kubernetes: 30 s).',
    },
  } as const satisfies Options
}

export const redisOptions = {
  redisUrl: {
    env: 'REDIS_URL',
    aliases: ['REDIS_HOST'],
    type: 'url',
    schemes: ['redis', 'rediss'],
    secret: true,
    default: 'redis://localhost:6379',
    help: 'The Redis server through which the daemons work together.',
    check: databaseProblem,
  },
} as const satisfies Options

export const identityOptions = {
  plcUrl: {
    env: 'PLC_URL',
    type: 'url',
    schemes: ['https', 'http'],
    default: 'https://plc.directory',
    help: 'The directory that resolves did:plc identities, or a mirror of it: scheme and host, without a path.',
    check: directoryProblem,
  },
} as const satisfies Options

/** For such a path the Redis client throws an error that an operator does not understand. */
function databaseProblem(url: string): string | undefined {
  if (/^\/?\d*$/.test(new URL(url).pathname)) return undefined
  return 'names its database by something else than a number, as in redis://host:6379/0'
}

/**
 * A path would silently be left out of the requests, and whatever is at the root of the host would be taken for the
 * directory.
 */
function directoryProblem(url: string): string | undefined {
  const { origin, pathname, search, hash } = new URL(url)
  if (pathname === '/' && search === '' && hash === '') return undefined
  return `has a path, a query or a fragment, and DIDs are looked up at the root of a host: write ${origin}`
}

/**
 * What is wrong with a list of hosts, if anything. A host is named as the daemons tell hosts apart: in lower case,
 * without a scheme, and with its port unless that is the one of HTTPS. Any other name would match no host, and the
 * setting would silently have no effect.
 */
export function hostNamesProblem(hosts: readonly string[]): string | undefined {
  const bad = hosts.find((host) => !HOST_NAME.test(host))
  return bad === undefined ? undefined : `names ${bad}, which is no host such as gone.example.com`
}

const HOST_NAME = /^([a-z0-9.-]+|\[[0-9a-f:]+\])(:(?!443$)\d+)?$/
