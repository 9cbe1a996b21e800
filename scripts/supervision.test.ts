/**
 * How Docker and Kubernetes start, watch, restart and stop what `docker-compose.yml`, the Dockerfiles and `infra/k8s`
 * describe.
 */
import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { ROLES, root } from './roles.ts'
import { copiesOf, readStages, theOnly } from './testing/image.ts'
import { find } from './testing/manifests.ts'

interface ComposeService {
  image: string
  command?: string[]
  environment?: Record<string, string>
  volumes?: string[]
  profiles?: string[]
  depends_on?: Record<string, { condition: string }>
  healthcheck?: { test?: string[]; disable?: boolean }
  restart?: string
  stop_grace_period?: string
  shm_size?: string
  logging?: { options?: Record<string, string> }
}

const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const { services } = parse(read('docker-compose.yml'), { merge: true }) as { services: Record<string, ComposeService> }
const daemons = Object.entries(services).filter(([, { environment }]) => environment?.METRICS_PORT !== undefined)

/** The seconds of `40s`, `2m`. */
function secondsOf(duration: string | undefined): number {
  const [, amount, unit] = /^(\d+)(s|m)$/.exec(duration ?? '') ?? []
  return Number(amount) * (unit === 'm' ? 60 : 1)
}

describe('docker-compose.yml', () => {
  test('a daemon and a store come back by themselves, and what runs once is tried again a few times', () => {
    expect(daemons.length).toBe(4)
    for (const [name, { restart }] of Object.entries(services))
      expect(restart, name).toBe(name === 'migrate' ? 'on-failure:5' : 'unless-stopped')
  })

  test('a daemon has no rights beyond its own, and a place for what it writes: /tmp, and the spool of the backfiller', () => {
    const confined = { read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'], tmpfs: ['/tmp'] }
    for (const [name, service] of daemons) {
      expect(service, name).toMatchObject(confined)
      const places = (service.volumes ?? []).map((volume) => volume.split(':')[1])
      expect(places, name).toEqual(name === 'backfiller' ? [service.environment!.BACKFILLER_SPOOL_DIR] : [])
    }
  })

  test('no log fills the disk', () => {
    for (const [name, { logging }] of Object.entries(services)) {
      expect(logging?.options?.['max-size'], name).toBeDefined()
      expect(logging?.options?.['max-file'], name).toBeDefined()
    }
  })

  test('nobody starts before the stores that it needs answer', () => {
    for (const [name, { depends_on: needs }] of daemons)
      expect(needs?.redis, name).toEqual({ condition: 'service_healthy' })
    expect(services.migrate!.depends_on).toEqual({ postgres: { condition: 'service_healthy' } })
    // It ends, and would count as ill by the image's own health check.
    expect(services.migrate!.healthcheck).toEqual({ disable: true })
  })

  test('Redis does not count as healthy while it reads its AOF, nor PostgreSQL before it has its database', () => {
    const [kind, script] = services.redis!.healthcheck!.test!
    expect(kind).toBe('CMD-SHELL')
    const passes = (answer: string): boolean =>
      spawnSync('sh', ['-c', script!.replace('redis-cli ping', `echo '${answer}'`)]).status === 0
    expect(['PONG', 'LOADING Redis is loading the dataset in memory'].map(passes)).toEqual([true, false])
    const { healthcheck, environment } = services.postgres!
    const { POSTGRES_USER: user, POSTGRES_DB: database } = environment!
    // The server that runs the first initialisation listens on its socket only. One whose initialisation was
    // interrupted has no database, of which pg_isready says nothing (stores.e2e.test.ts).
    const place = ['-h', '127.0.0.1', '-U', user, '-d', database]
    expect(healthcheck!.test).toEqual(['CMD', 'psql', '-X', '-w', ...place, '-c', 'SELECT 1'])
  })

  test('PostgreSQL is made as the daemons and their ranges need it: their user and database, and text that sorts by its bytes', () => {
    const {
      POSTGRES_USER: user,
      POSTGRES_DB: database,
      POSTGRES_PASSWORD: password,
      POSTGRES_INITDB_ARGS: made,
    } = services.postgres!.environment!
    for (const [name, { environment }] of [...daemons, ['migrate', services.migrate!] as const])
      expect(environment!.DB_POSTGRES_URL, name).toBe(`postgres://${user}:${password}@postgres:5432/${database}`)
    expect(made!.split(' ').toSorted()).toEqual([
      '--builtin-locale=C.UTF-8',
      '--encoding=UTF8',
      '--locale-provider=builtin',
      '--locale=C',
    ])
  })

  test('what the stores keep is on volumes, at the places where their images write, and their settings are the files of infra', () => {
    const { redis, postgres } = services as Record<'redis' | 'postgres', ComposeService>
    const [, folder] = /^dir (\S+)$/m.exec(read('infra/redis/redis.conf'))!
    expect(redis.volumes).toContain(`redis:${folder}`)
    // From 18 on the image has its data in a folder of the version below this one.
    expect(Number(/^postgres:(\d+)/.exec(postgres.image)![1])).toBeGreaterThanOrEqual(18)
    expect(postgres.volumes).toContain('postgres:/var/lib/postgresql')
    const [, settings] = /^config_file=(\S+)$/.exec(postgres.command!.at(-1)!)!
    expect(postgres.volumes).toContain(`./infra/postgres/postgresql.conf:${settings}:ro`)
    expect(read('infra/postgres/postgresql.conf')).toMatch(/^listen_addresses = '\*'$/m)
    expect(postgres.shm_size).toBeDefined()
    // As `sluice doctor` asks for: scripts with flags.
    expect(Number(/^redis:(\d+)/.exec(redis.image)![1])).toBeGreaterThanOrEqual(7)
  })

  test('the stores have the time that they need to stop: what they hold is written', () => {
    expect(secondsOf(services.redis!.stop_grace_period)).toBeGreaterThanOrEqual(60)
    expect(secondsOf(services.postgres!.stop_grace_period)).toBeGreaterThanOrEqual(60)
    expect(find('StatefulSet', 'redis').spec!.template.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(60)
  })
})

describe.each(ROLES)('the image of the %s', (role) => {
  const [, image] = readStages(`Dockerfile.${role}`)
  const variables = image!.filter(({ name }) => name === 'ENV').map(({ text }) => text)

  test('runs as in production, and knows its build', () => {
    expect(variables).toContain('NODE_ENV=production')
    expect(theOnly(image!, 'ARG')).toBe('SLUICE_BUILD_ID=""')
    expect(variables).toContain('SLUICE_BUILD_ID=$SLUICE_BUILD_ID')
    // The base image's own entrypoint takes `sluice` for a script of Node's.
    expect(theOnly(image!, 'ENTRYPOINT')).toBe('[]')
  })

  test('has a spool that its user may write', () => {
    const [, uid, gid] = /^(\d+):(\d+)$/.exec(theOnly(image!, 'USER'))!
    const runs = image!.filter(({ name }) => name === 'RUN').map(({ text }) => text)
    expect(runs).toContain(`install -d -o ${uid} -g ${gid} /spool`)
  })

  test('is not taken for ill while it starts, nor before its health check has given up by itself', () => {
    const text = theOnly(image!, 'HEALTHCHECK')
    const [script] = copiesOf(image!).find(({ target }) => target.endsWith('healthcheck.mjs'))!.sources
    const [, ownMs] = /AbortSignal\.timeout\(([\d_]+)\)/.exec(read(script!))!
    expect(secondsOf(/--timeout=(\S+)/.exec(text)![1]) * 1_000).toBeGreaterThan(Number(ownMs!.replaceAll('_', '')))
    expect(secondsOf(/--start-period=(\S+)/.exec(text)?.[1])).toBeGreaterThanOrEqual(30)
    expect(Number(/--retries=(\d+)/.exec(text)?.[1])).toBeGreaterThan(1)
  })
})

test('the health check asks the port that METRICS_PORT names before the one of its image, and takes only the answer of a daemon', async () => {
  await using daemon = createServer((request, response) => {
    response.writeHead(request.url === '/health' ? 200 : 503).end()
  }).listen(0, '127.0.0.1')
  await using another = createServer((_, response) => void response.writeHead(404).end()).listen(0, '127.0.0.1')
  await Promise.all([once(daemon, 'listening'), once(another, 'listening')])
  const [own, wrong] = [daemon, another].map((server) => String((server.address() as AddressInfo).port))
  const codeOf = async (port: string, env: Record<string, string> = {}): Promise<number | null> => {
    const child = execFile(process.execPath, [join(root, 'infra/docker/healthcheck.mjs'), port], { env })
    const [code] = (await once(child, 'exit')) as [number | null]
    return code
  }
  expect(await codeOf(own!)).toBe(0)
  expect(await codeOf(wrong!)).toBe(1)
  expect(await codeOf(wrong!, { METRICS_PORT: own! })).toBe(0)
  expect(await codeOf(own!, { METRICS_PORT: wrong! })).toBe(1)
})

describe('the stores', () => {
  const settingsOf = (path: string, assigned: RegExp): Record<string, string> =>
    Object.fromEntries(
      read(path)
        .split('\n')
        .flatMap((line) => {
          const [, name, value] = assigned.exec(line) ?? []
          return name === undefined ? [] : [[name, value!]]
        }),
    )

  test('Redis loses nothing that it has answered for, starts after a power cut, and leaves consumers that wait connected', () => {
    const redis = settingsOf('infra/redis/redis.conf', /^([a-z-]+) (.*)$/)
    expect(redis).toMatchObject({
      appendonly: 'yes',
      appendfsync: 'everysec',
      'no-appendfsync-on-rewrite': 'no',
      'aof-load-truncated': 'yes',
      'stop-writes-on-bgsave-error': 'yes',
      save: '""',
      timeout: '0',
    })
    expect(Number(redis['tcp-keepalive'])).toBeGreaterThan(0)
    // The field of a did:plc has 15 bytes, a chain record 37.
    expect(Number(redis['hash-max-listpack-value'])).toBeGreaterThanOrEqual(37)
  })

  test('PostgreSQL has on its disk what it has committed, since its entry is acked then', () => {
    const postgres = settingsOf('infra/postgres/postgresql.conf', /^(\w+) = (.*)$/)
    expect(postgres).toMatchObject({ fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' })
  })
})

describe('infra/k8s', () => {
  interface Watched {
    httpGet?: { path: string; port: string }
    periodSeconds: number
    timeoutSeconds?: number
    failureThreshold?: number
  }

  test.each(ROLES)('the %s is not restarted for an outage, for one slow answer, or while it starts', (role) => {
    const [container] = find('StatefulSet', role).spec!.template.spec.containers
    const { startupProbe, livenessProbe, readinessProbe } = container as unknown as Record<string, Watched>
    expect(startupProbe!.httpGet).toEqual({ path: '/health', port: 'metrics' })
    expect(startupProbe!.periodSeconds * startupProbe!.failureThreshold!).toBeGreaterThanOrEqual(60)
    expect(livenessProbe!.failureThreshold).toBeGreaterThan(1)
    for (const probe of [livenessProbe, readinessProbe]) expect(probe!.timeoutSeconds).toBeGreaterThanOrEqual(5)
  })

  test.each(ROLES)('every pod of the %s has a name, ready or not, starts beside the others, and is scraped', (role) => {
    expect(find('Service', role).spec).toMatchObject({ clusterIP: 'None', publishNotReadyAddresses: true })
    const { spec } = find('StatefulSet', role)
    expect(spec).toMatchObject({ podManagementPolicy: 'Parallel' })
    expect(spec!.template.metadata.annotations['prometheus.io/scrape']).toBe('true')
    expect(spec!.template.spec).toMatchObject({ enableServiceLinks: false, automountServiceAccountToken: false })
  })

  test('the schema is brought up to date before an indexer starts, which does not do it', () => {
    const { initContainers, containers } = find('StatefulSet', 'indexer').spec!.template.spec
    expect(initContainers!.map(({ image, command }) => [image, command])).toEqual([
      ['sluice-indexer', ['sluice', 'migrate']],
    ])
    expect(initContainers![0]!.envFrom).toEqual(containers[0]!.envFrom)
    expect(containers[0]!.env).toContainEqual({ name: 'INDEXER_MIGRATE', value: 'false' })
  })

  test('Redis is one, reads its AOF for as long as that takes, writes to its disk, and a daemon refuses one that could lose data', () => {
    const { spec } = find('StatefulSet', 'redis')
    const [container] = spec!.template.spec.containers
    expect(spec!.replicas).toBe(1)
    const { periodSeconds, failureThreshold } = container!.startupProbe as unknown as Watched
    expect(periodSeconds * failureThreshold!).toBeGreaterThanOrEqual(600)
    const [, folder] = /^dir (\S+)$/m.exec(read('infra/redis/redis.conf'))!
    expect(container!.volumeMounts).toEqual([
      { name: 'config', mountPath: '/etc/redis' },
      { name: 'data', mountPath: folder },
    ])
    const { runAsUser, fsGroup } = spec!.template.spec.securityContext
    expect(fsGroup).toBe(runAsUser)
    const { REDIS_STRICT, REDIS_URL } = find('ConfigMap', 'sluice-config').data!
    expect([REDIS_STRICT, REDIS_URL]).toEqual([
      'true',
      `redis://redis:${find('Service', 'redis').spec!.ports![0]!.port}`,
    ])
  })

  test('everything is in its namespace, the settings of Redis with it', () => {
    const { namespace, resources } = parse(read('infra/k8s/kustomization.yaml')) as {
      namespace: string
      resources: string[]
    }
    expect(namespace).toBe(find('Namespace', 'sluice').metadata.name)
    expect(resources).toContain('../redis')
    for (const name of ['indexer', 'backfiller'])
      expect(find('PodDisruptionBudget', name).spec, name).toMatchObject({ maxUnavailable: 1 })
  })
})
