import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exampleOf, loadConfig, namesOf } from '@sluice/runtime/config.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { configOf, ROLES, root } from './roles.ts'
import { readStages, theOnly } from './testing/image.ts'

type Env = Record<string, string | number>

interface ComposeService {
  image: string
  build?: { dockerfile: string }
  command?: string[]
  environment?: Env
  env_file?: { path: string; required: boolean }[]
  ports?: string[]
  volumes?: string[]
  profiles?: string[]
  depends_on?: Record<string, { condition: string }> | string[]
  stop_grace_period?: string
}

interface Container {
  name: string
  image: string
  command?: string[]
  envFrom?: { configMapRef?: { name: string }; secretRef?: { name: string } }[]
  env?: { name: string; value?: string; valueFrom?: { fieldRef: { fieldPath: string } } }[]
  ports?: { name: string; containerPort: number }[]
  volumeMounts?: { name: string; mountPath: string }[]
  livenessProbe?: { httpGet?: { path: string; port: string } }
  readinessProbe?: { httpGet?: { path: string; port: string } }
  resources?: { requests?: Env; limits?: Env }
}

interface PodSpec {
  terminationGracePeriodSeconds: number
  containers: Container[]
  initContainers?: Container[]
  volumes: { name: string }[]
}

interface Manifest {
  kind: string
  metadata: { name: string }
  data?: Record<string, string>
  stringData?: Record<string, string>
  spec?: {
    replicas?: number
    serviceName?: string
    selector: Record<string, unknown>
    template: { metadata: { labels: Record<string, string>; annotations: Record<string, string> }; spec: PodSpec }
    volumeClaimTemplates?: { metadata: { name: string } }[]
    ports?: { port: number }[]
  }
}

const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const drainSeconds = Number(exampleOf((await configOf('ingester')).options.drainMs!)) / 1_000

/** Without a `.env` and a variable of the shell, as compose fills in. */
function interpolate(env: Env): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).map(([name, value]) => [name, String(value).replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1')]),
  )
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
    expect(variables.filter((inner) => !/^[A-Z_]+:-/.test(inner))).toEqual([])
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

  test('lets .env decide every variable, but for those that docs/operations.md names', () => {
    const fixed = services
      .filter(([, { image }]) => image.startsWith('sluice-'))
      .flatMap(([, { environment = {} }]) => Object.entries(environment))
      .filter(([name, value]) => !String(value).startsWith(`\${${name}:-`))
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

const manifests = globSync('infra/k8s/*.yaml', { cwd: root })
  .filter((path) => !path.endsWith('kustomization.yaml'))
  .flatMap((path) => parseAllDocuments(read(path)).map((document) => document.toJS() as Manifest))
const find = (kind: string, name: string): Manifest =>
  manifests.find((one) => one.kind === kind && one.metadata.name === name)!

describe('infra/k8s', () => {
  test('the kustomization names every file, and images that the containers use', () => {
    const { resources, images } = parse(read('infra/k8s/kustomization.yaml')) as {
      resources: string[]
      images: { name: string }[]
    }
    const files = globSync('*.yaml', { cwd: join(root, 'infra/k8s') }).filter((name) => name !== 'kustomization.yaml')
    expect(resources.filter((name) => name !== '../redis').toSorted()).toEqual(files.toSorted())
    expect(images.map(({ name }) => name).toSorted()).toEqual(ROLES.map((role) => `sluice-${role}`).toSorted())
  })

  test.each(ROLES)('starts the %s with an environment that it accepts, and watches it on its port', async (role) => {
    const { spec } = find('StatefulSet', role)
    const pod = spec!.template.spec
    const [container] = pod.containers
    const env = { ...find('ConfigMap', 'sluice-config').data, ...find('Secret', 'sluice-secret').stringData }
    for (const { name, value } of container!.env!) env[name] = value ?? 'pod-0'
    const config = (await loadRole(role, env)) as { metricsPort: number }
    expect(container!.image).toBe(`sluice-${role}`)
    expect(container!.ports).toEqual([{ name: 'metrics', containerPort: config.metricsPort }])
    expect(spec!.template.metadata.annotations['prometheus.io/port']).toBe(String(config.metricsPort))
    expect(find('Service', role).spec!.ports).toMatchObject([{ port: config.metricsPort }])
    expect(container!.livenessProbe!.httpGet).toEqual({ path: '/health', port: 'metrics' })
    expect(container!.readinessProbe!.httpGet).toEqual({ path: '/ready', port: 'metrics' })
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(drainSeconds)
    expect(container!.envFrom).toEqual([
      { configMapRef: { name: 'sluice-config' } },
      { secretRef: { name: 'sluice-secret' } },
    ])
  })

  test('consumers are called like their pods; there is one ingester', () => {
    for (const [role, variable] of [
      ['backfiller', 'BACKFILLER_CONSUMER'],
      ['indexer', 'INDEXER_CONSUMER'],
    ] as const) {
      const { env } = find('StatefulSet', role).spec!.template.spec.containers[0]!
      expect(env!.find(({ name }) => name === variable)?.valueFrom?.fieldRef.fieldPath).toBe('metadata.name')
    }
    expect(find('StatefulSet', 'ingester').spec!.replicas).toBe(1)
  })

  test('selectors find their pods, mounts their volumes, and every container has its limits', () => {
    for (const { kind, metadata, spec } of manifests) {
      if (kind === 'Service')
        expect(find('StatefulSet', metadata.name).spec!.template.metadata.labels).toMatchObject(spec!.selector)
      if (kind === 'PodDisruptionBudget')
        expect(spec!.selector.matchLabels).toEqual(find('StatefulSet', metadata.name).spec!.selector.matchLabels)
      if (kind !== 'StatefulSet') continue
      const { template, selector, volumeClaimTemplates: claims = [], serviceName } = spec!
      expect(template.metadata.labels).toEqual(selector.matchLabels)
      expect(find('Service', serviceName!)).toBeDefined()
      const volumes = [
        ...(template.spec.volumes ?? []).map(({ name }) => name),
        ...claims.map((claim) => claim.metadata.name),
      ]
      for (const container of [...template.spec.containers, ...(template.spec.initContainers ?? [])]) {
        expect(
          (container.volumeMounts ?? []).filter(({ name }) => !volumes.includes(name)),
          metadata.name,
        ).toEqual([])
        expect(container.resources?.limits?.memory, container.name).toBeDefined()
      }
    }
  })

  test('every pod of a daemon is asked by `sluice doctor`', () => {
    const pods = ROLES.flatMap((role) => {
      const { spec } = find('StatefulSet', role)
      const port = spec!.template.spec.containers[0]!.ports![0]!.containerPort
      return Array.from({ length: spec!.replicas! }, (_, i) => `http://${role}-${i}.${role}:${port}`)
    })
    expect(find('ConfigMap', 'sluice-config').data!.SLUICE_DAEMONS!.split(',')).toEqual(pods)
  })
})

describe('the memory of Redis', () => {
  /** What operators of full AppViews published: docs/operations.md. */
  const NETWORK_ACCOUNTS = 42e6
  /** Measured; it never drains. */
  const CHAIN_BYTES = 60
  const bytesOf = (size: string): number => {
    const [, amount, unit] = /^(\d+)(mb|gb|Mi|Gi)$/.exec(size) ?? []
    return Number(amount) * 1024 ** (unit!.toLowerCase().startsWith('m') ? 2 : 3)
  }
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

  test('is one number for both: compose starts Redis with that file, and nothing else', () => {
    const { command, volumes } = compose.services.redis!
    expect(command).toEqual(['redis-server', '/etc/redis/redis.conf'])
    expect(volumes).toContain('./infra/redis/redis.conf:/etc/redis/redis.conf:ro')
    expect(find('StatefulSet', 'redis').spec!.template.spec.containers[0]!.command).toEqual(command)
  })
})

/** What the role would make of the environment. @throws ConfigError */
async function loadRole(role: (typeof ROLES)[number], env: Record<string, string>): Promise<unknown> {
  const config = await configOf(role)
  expect(namesOf(config)).toContain('METRICS_PORT')
  return loadConfig(config, env, { known: VARIABLES })
}
