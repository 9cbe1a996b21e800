import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exampleOf } from '@sluice/runtime/config.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { configOf, ROLES, root } from './roles.ts'
import { readStages, theOnly } from './testing/image.ts'
import { bytesOf, type Env, find } from './testing/manifests.ts'
import { drainSeconds, loadRole } from './testing/role-config.ts'

interface ComposeService {
  image: string
  build?: { dockerfile: string }
  command?: string[]
  environment?: Env
  env_file?: { path: string; required: boolean }[]
  init?: boolean
  ports?: string[]
  volumes?: string[]
  profiles?: string[]
  depends_on?: Record<string, { condition: string }> | string[]
  stop_grace_period?: string
}

const read = (path: string): string => readFileSync(join(root, path), 'utf8')

/**
 * What compose makes of an environment, the innermost braces first.
 * @param given what stands in `.env`, or in the shell: nothing else
 */
function interpolate(env: Env, given: Record<string, string> = {}): Record<string, string> {
  const fill = (text: string): string => {
    const filled = text.replaceAll(/\$\{(\w+)(:?-)([^${}]*)\}/g, (_, name: string, kind: string, otherwise: string) =>
      kind === '-' ? (given[name] ?? otherwise) : given[name] || otherwise,
    )
    return filled === text ? text : fill(filled)
  }
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name, fill(String(value))]))
}

const composeText = read('docker-compose.yml')
const compose = parse(composeText, { merge: true }) as {
  services: Record<string, ComposeService>
  volumes: Record<string, null>
}
const services = Object.entries(compose.services)

describe('docker-compose.yml', () => {
  test('needs nothing set: every variable has a default', () => {
    const variables = [...composeText.matchAll(/\$\{([^}]*)\}/g)].map(([, inner]) => inner!)
    expect(variables.length).toBeGreaterThan(5)
    expect(variables.filter((inner) => !/^[A-Z_]+:?-/.test(inner))).toEqual([])
  })

  test.each(ROLES)(
    'starts the %s with an environment that it accepts, on the port that its image knows',
    async (role) => {
      const service = compose.services[role]!
      const env = interpolate(service.environment!)
      const config = (await loadRole(role, env)) as { metricsPort: number; redisUrl: string }
      const [, image] = readStages(service.build!.dockerfile)
      expect(service.build!.dockerfile).toBe(`Dockerfile.${role}`)
      expect(String(config.metricsPort)).toBe(theOnly(image!, 'EXPOSE'))
      expect(service.ports).toEqual([`127.0.0.1:${config.metricsPort}:${config.metricsPort}`])
      expect(config.redisUrl).toBe('redis://redis:6379')
      expect(Number.parseInt(service.stop_grace_period!)).toBeGreaterThan(drainSeconds)
    },
  )

  /** The variables of a service that `.env` and the shell decide. */
  const openOf = (role: (typeof ROLES)[number]): string[] => {
    const { environment } = compose.services[role]!
    return Object.keys(environment!).filter((name) => interpolate(environment!, { [name]: 'x' })[name] === 'x')
  }

  test.each(ROLES)('an empty variable is to the %s one that is not set: its own default counts', async (role) => {
    const { environment } = compose.services[role]!
    expect(openOf(role)).toContain('LABELER_HOSTS')
    for (const name of openOf(role)) {
      const { [name]: empty, ...others } = interpolate(environment!, { [name]: '' })
      expect(await loadRole(role, { ...others, [name]: empty! }), name).toEqual(await loadRole(role, others))
    }
  })

  test('an alias in .env counts where the variable itself is not set', async () => {
    const counted: string[] = []
    for (const role of ROLES) {
      const { environment } = compose.services[role]!
      const options = Object.values((await configOf(role)).options).filter(({ env }) => openOf(role).includes(env))
      for (const { env, alias } of options.flatMap(({ env, aliases = [] }) =>
        aliases.map((alias) => ({ env, alias })),
      )) {
        const file = { [alias]: 'https://another.example' }
        const meant = await loadRole(role, { ...interpolate(environment!), [env]: file[alias]! })
        expect(await loadRole(role, { ...file, ...interpolate(environment!, file) }), alias).toEqual(meant)
        counted.push(alias)
      }
    }
    expect(counted).toContain('INGESTER_LABELER_HOSTS')
  })

  test('reads the labels of the network unless LABELER_HOSTS is there and empty', async () => {
    const { environment } = compose.services.ingester!
    const labelersOf = async (given: Record<string, string>) =>
      ((await loadRole('ingester', interpolate(environment!, given))) as { labelerHosts: string[] }).labelerHosts
    expect(await labelersOf({})).toEqual(['https://mod.bsky.app'])
    expect(await labelersOf({ LABELER_HOSTS: '' })).toEqual([])
  })

  test('gives no variable that nobody reads', () => {
    for (const [name, { environment = {}, image }] of services) {
      if (!image.startsWith('sluice-')) continue
      expect(
        Object.keys(environment).filter((variable) => !VARIABLES.includes(variable)),
        name,
      ).toEqual([])
    }
  })

  test('tells every daemon of the relays and labelers: `sluice` is asked in any of their containers, as under Kubernetes', () => {
    const { data } = find('ConfigMap', 'sluice-config')
    for (const role of ROLES) {
      const env = interpolate(compose.services[role]!.environment!)
      for (const name of ['RELAY_HOSTS', 'LABELER_HOSTS', 'SLUICE_DAEMONS', 'DB_POSTGRES_URL']) {
        expect(env[name], `${name} of the ${role}`).toMatch(/:\/\//)
      }
      expect([env.RELAY_HOSTS, env.LABELER_HOSTS]).toEqual([data!.RELAY_HOSTS, data!.LABELER_HOSTS])
    }
  })

  test('gives the daemons, and what migrates for them, all of .env', () => {
    const ours = services.filter(([, { image }]) => image.startsWith('sluice-'))
    expect(ours.map(([name]) => name).toSorted()).toEqual([
      'backfiller',
      'indexer',
      'indexer-two',
      'ingester',
      'migrate',
    ])
    for (const [name, { env_file: files }] of ours) expect(files, name).toEqual([{ path: '.env', required: false }])
  })

  test('gives each of them a process 1 that passes signals on: Node as process 1 loses those that come before it listens', () => {
    const ours = services.filter(([, { image }]) => image.startsWith('sluice-'))
    expect(ours.filter(([, { init }]) => init !== true).map(([name]) => name)).toEqual([])
  })

  test('lets .env decide every variable, but for those that docs/operations.md names', () => {
    const fixed = services
      .filter(([, { image }]) => image.startsWith('sluice-'))
      .flatMap(([, { environment = {} }]) => Object.entries(environment))
      .filter(([name, value]) => !new RegExp(`^\\$\\{${name}:?-`).test(String(value)))
      .map(([name]) => name)
    const [, named] = /^Given by the file whatever `.env` says: (.*)\.$/m.exec(read('docs/operations.md'))!
    const names = [...named!.matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name!)
    expect([...new Set(fixed)].toSorted()).toEqual(names.toSorted())
  })

  test('starts Redis with the password of docs/operations.md, and tells it to every daemon and the health check', () => {
    const [text] = /^services:\n(?: .*\n)*.*--requirepass(?:.*\n)(?: .*\n)*/m.exec(read('docs/operations.md'))!
    const { redis, ...daemons } = (parse(text, { merge: true }) as { services: Record<string, ComposeService> })
      .services
    const ours = services.filter(([, { environment }]) => environment?.METRICS_PORT !== undefined)
    expect(Object.keys(daemons).toSorted()).toEqual(ours.map(([name]) => name).toSorted())
    const { REDISCLI_AUTH: password } = redis!.environment!
    expect(redis!.command).toEqual([...compose.services.redis!.command!, '--requirepass', password])
    for (const { environment } of Object.values(daemons))
      expect(environment).toEqual({ REDIS_URL: `redis://:${password}@redis:6379` })
  })

  test('runs a second indexer by the profile `scale`: another consumer, all else equal', () => {
    const [one, two] = [compose.services.indexer!, compose.services['indexer-two']!]
    expect(two.profiles).toEqual(['scale'])
    const differing = Object.keys(two.environment!).filter((name) => one.environment![name] !== two.environment![name])
    expect(differing.toSorted()).toEqual(['INDEXER_CONSUMER', 'SLUICE_DAEMONS'])
    expect(two.image).toBe(one.image)
  })

  test('migrates once before the indexers, which do not', () => {
    expect(compose.services.migrate!.command).toEqual(['sluice', 'migrate'])
    for (const name of ['indexer', 'indexer-two']) {
      expect(compose.services[name]!.depends_on).toMatchObject({
        migrate: { condition: 'service_completed_successfully' },
      })
      expect(compose.services[name]!.environment!.INDEXER_MIGRATE).toBe('false')
    }
  })

  test('mounts what exists, names every volume, publishes to this machine only, each port once', () => {
    const ports = services.flatMap(([, service]) => service.ports ?? [])
    expect(ports.filter((port) => !port.startsWith('127.0.0.1:'))).toEqual([])
    expect(new Set(ports).size).toBe(ports.length)
    const sources = services.flatMap(([, service]) => (service.volumes ?? []).map((volume) => volume.split(':')[0]!))
    expect(sources.filter((source) => source.startsWith('.') && !existsSync(join(root, source)))).toEqual([])
    expect(new Set(sources.filter((source) => !source.startsWith('.')))).toEqual(new Set(Object.keys(compose.volumes)))
    for (const [name, { depends_on: needs = {} }] of services) {
      const names = Array.isArray(needs) ? needs : Object.keys(needs)
      expect(
        names.filter((one) => compose.services[one] === undefined),
        name,
      ).toEqual([])
    }
  })

  test('is scraped by Prometheus: each daemon by its name and port', () => {
    const { scrape_configs: jobs } = parse(read('infra/prometheus/prometheus.yml')) as {
      scrape_configs: { dns_sd_configs: { names: string[]; port: number }[] }[]
    }
    const scraped = jobs.flatMap((job) =>
      job.dns_sd_configs.flatMap(({ names, port }) => names.map((name) => `${name}:${port}`)),
    )
    const daemons = services.filter(([, { environment }]) => environment?.METRICS_PORT !== undefined)
    expect(scraped.toSorted()).toEqual(
      daemons.map(([name, { environment }]) => `${name}:${environment!.METRICS_PORT}`).toSorted(),
    )
  })
})

describe('the memory of Redis', () => {
  /** What operators of full AppViews published: docs/operations.md. */
  const NETWORK_ACCOUNTS = 42e6
  /** Measured; it never drains. */
  const CHAIN_BYTES = 60
  const maxmemory = bytesOf(/^maxmemory (\S+)$/m.exec(read('infra/redis/redis.conf'))![1]!)
  const ingesterEnv = find('StatefulSet', 'ingester').spec!.template.spec.containers[0]!.env!

  test.each([
    ['docker-compose.yml', interpolate(compose.services.ingester!.environment!).INGESTER_MODE],
    ['infra/k8s', ingesterEnv.find(({ name }) => name === 'INGESTER_MODE')!.value],
  ])(
    'holds the chain records of what %s begins to fetch, below the mark at which the backfiller waits',
    async (_, mode) => {
      expect(mode, 'the mode that lists the network').toBe('all')
      const { redisMemoryPercent } = (await configOf('backfiller')).options
      const mark = Number(exampleOf(redisMemoryPercent!)) / 100
      // It goes on below nine tenths of the mark only, and the streams want their place beside: 1 GB at their marks.
      expect(NETWORK_ACCOUNTS * CHAIN_BYTES + 1024 ** 3).toBeLessThan(0.9 * mark * maxmemory)
    },
  )

  test('fits twice into its pod: a rewrite of the AOF forks', () => {
    const { resources } = find('StatefulSet', 'redis').spec!.template.spec.containers[0]!
    expect(bytesOf(String(resources!.limits!.memory))).toBeGreaterThanOrEqual(2 * maxmemory)
    expect(resources!.requests!.memory).toBe(resources!.limits!.memory)
  })

  /**
   * A base as large as the memory, as much again of what came after it, and the next base, which is written beside
   * them.
   */
  test('fits three times on its disk: the AOF is rewritten when it has doubled', () => {
    expect(read('infra/redis/redis.conf')).toMatch(/^auto-aof-rewrite-percentage 100$/m)
    const [claim] = find('StatefulSet', 'redis').spec!.volumeClaimTemplates!
    expect(bytesOf(claim!.spec.resources.requests.storage)).toBeGreaterThan(3 * maxmemory)
  })

  test('is one number for both: compose starts Redis with that file, and nothing else', () => {
    const { command, volumes } = compose.services.redis!
    expect(command).toEqual(['redis-server', '/etc/redis/redis.conf'])
    expect(volumes).toContain('./infra/redis/redis.conf:/etc/redis/redis.conf:ro')
    expect(find('StatefulSet', 'redis').spec!.template.spec.containers[0]!.command).toEqual(command)
  })
})
