/**
 * What `kubectl apply -k infra/k8s` would start, held against the configuration, the images and the settings of Redis.
 */
import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exampleOf } from '@sluice/runtime/config.ts'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { configOf, ROLES, root } from './roles.ts'
import { readStages, theOnly } from './testing/image.ts'
import { bytesOf, containersOf, find, manifests, pods } from './testing/manifests.ts'
import { drainSeconds, loadRole } from './testing/role-config.ts'

const read = (path: string): string => readFileSync(join(root, path), 'utf8')

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
    const addresses = ROLES.flatMap((role) => {
      const { spec } = find('StatefulSet', role)
      const port = spec!.template.spec.containers[0]!.ports![0]!.containerPort
      return Array.from({ length: spec!.replicas! }, (_, i) => `http://${role}-${i}.${role}:${port}`)
    })
    expect(find('ConfigMap', 'sluice-config').data!.SLUICE_DAEMONS!.split(',')).toEqual(addresses)
  })

  test('every pod is what the namespace enforces: no root, no capabilities, nothing of the node', () => {
    expect(find('Namespace', 'sluice').metadata.labels).toEqual({ 'pod-security.kubernetes.io/enforce': 'restricted' })
    expect(pods.map(([name]) => name).toSorted()).toEqual([...ROLES, 'redis'].toSorted())
    for (const [name, pod] of pods) {
      const { runAsUser } = pod.securityContext
      expect(runAsUser, name).toBeGreaterThan(0)
      expect(pod.securityContext, name).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      })
      for (const container of containersOf(pod)) {
        expect(container.securityContext, `${name} ${container.name}`).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        })
      }
      const kinds = pod.volumes.flatMap((volume) => Object.keys(volume)).filter((key) => key !== 'name')
      expect(
        kinds.filter((kind) => !['emptyDir', 'configMap'].includes(kind)),
        name,
      ).toEqual([])
    }
  })

  test('daemons are the user of their image, and what they write has a place: /tmp, and a spool as large as it may become', async () => {
    for (const role of ROLES) {
      const pod = find('StatefulSet', role).spec!.template.spec
      const { runAsUser, fsGroup } = pod.securityContext
      const [, image] = readStages(`Dockerfile.${role}`)
      expect(`${runAsUser}:${fsGroup}`).toBe(theOnly(image!, 'USER'))
      const paths = pod.containers[0]!.volumeMounts!.map(({ mountPath }) => mountPath)
      expect(paths).toEqual(role === 'backfiller' ? ['/tmp', '/spool'] : ['/tmp'])
    }
    const { containers, volumes } = find('StatefulSet', 'backfiller').spec!.template.spec
    expect(containers[0]!.env).toContainEqual({ name: 'BACKFILLER_SPOOL_DIR', value: '/spool' })
    const most = bytesOf(exampleOf((await configOf('backfiller')).options.spoolBytes!))
    expect(bytesOf(volumes.find(({ name }) => name === 'spool')!.emptyDir!.sizeLimit!)).toBeGreaterThan(most)
  })

  test('a node can be drained though a store is away and no pod is ready: a pod that is not ready has nothing to lose', () => {
    const budgets = manifests.filter(({ kind }) => kind === 'PodDisruptionBudget')
    expect(budgets.map(({ metadata }) => metadata.name).toSorted()).toEqual(['backfiller', 'indexer'])
    for (const { metadata, spec } of budgets)
      expect(spec!.unhealthyPodEvictionPolicy, metadata.name).toBe('AlwaysAllow')
  })

  test('Redis, which asks for no password, is reached from its own namespace only', () => {
    expect(read('infra/redis/redis.conf')).toMatch(/^protected-mode no$/m)
    const { podSelector, ingress } = find('NetworkPolicy', 'redis').spec!
    expect(podSelector).toEqual({ matchLabels: find('StatefulSet', 'redis').spec!.template.metadata.labels })
    expect(ingress).toEqual([
      { from: [{ podSelector: {} }], ports: [{ port: find('Service', 'redis').spec!.ports![0]!.port }] },
    ])
  })

  test('Redis is not taken for dead while it reads its AOF, and not for ready', () => {
    const { startupProbe, livenessProbe, readinessProbe } = find('StatefulSet', 'redis').spec!.template.spec
      .containers[0]!
    const passes = (probe: typeof startupProbe, answer: string): boolean => {
      const [shell, flag, script] = probe!.exec!.command
      expect(script).toMatch(/^redis-cli ping \| /)
      return spawnSync(shell!, [flag!, script!.replace('redis-cli ping', `echo '${answer}'`)]).status === 0
    }
    const probes = [startupProbe, livenessProbe, readinessProbe]
    expect(probes.map((probe) => passes(probe, 'PONG'))).toEqual([true, true, true])
    const loading = 'LOADING Redis is loading the dataset in memory'
    expect(probes.map((probe) => passes(probe, loading))).toEqual([false, true, false])
    expect(probes.map((probe) => passes(probe, 'Could not connect to Redis at 127.0.0.1:6379'))).toEqual([
      false,
      false,
      false,
    ])
  })
})
