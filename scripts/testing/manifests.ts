/** What `kubectl apply -k infra/k8s` reads, as far as tests ask for it. */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { root } from '../roles.ts'

export type Env = Record<string, string | number>

export interface Container {
  name: string
  image: string
  command?: string[]
  envFrom?: { configMapRef?: { name: string }; secretRef?: { name: string } }[]
  env?: { name: string; value?: string; valueFrom?: { fieldRef: { fieldPath: string } } }[]
  ports?: { name: string; containerPort: number }[]
  volumeMounts?: { name: string; mountPath: string }[]
  startupProbe?: Probe
  livenessProbe?: Probe
  readinessProbe?: Probe
  resources?: { requests?: Env; limits?: Env }
  securityContext?: { allowPrivilegeEscalation?: boolean; readOnlyRootFilesystem?: boolean; capabilities?: object }
}

interface Probe {
  httpGet?: { path: string; port: string }
  exec?: { command: string[] }
}

export interface PodSpec {
  terminationGracePeriodSeconds: number
  containers: Container[]
  initContainers?: Container[]
  volumes: { name: string; emptyDir?: { sizeLimit?: string }; configMap?: { name: string } }[]
  securityContext: { runAsNonRoot: boolean; runAsUser: number; fsGroup: number; seccompProfile: { type: string } }
}

export interface Manifest {
  kind: string
  metadata: { name: string; labels?: Record<string, string> }
  data?: Record<string, string>
  stringData?: Record<string, string>
  spec?: {
    replicas?: number
    serviceName?: string
    selector: Record<string, unknown>
    template: { metadata: { labels: Record<string, string>; annotations: Record<string, string> }; spec: PodSpec }
    volumeClaimTemplates?: { metadata: { name: string }; spec: { resources: { requests: { storage: string } } } }[]
    ports?: { port: number }[]
    unhealthyPodEvictionPolicy?: string
    podSelector?: { matchLabels: Record<string, string> }
    ingress?: { from?: object[]; ports?: { port: number }[] }[]
  }
}

/** In the order of the files; the kustomization itself is none. */
export const manifests: readonly Manifest[] = globSync('infra/k8s/*.yaml', { cwd: root })
  .filter((path) => !path.endsWith('kustomization.yaml'))
  .flatMap((path) =>
    parseAllDocuments(readFileSync(join(root, path), 'utf8')).map((document) => document.toJS() as Manifest),
  )

/** Undefined at run time when there is none; the test that asks then fails. */
export const find = (kind: string, name: string): Manifest =>
  manifests.find((one) => one.kind === kind && one.metadata.name === name)!

/** Of a pod, those that run first included. */
export const containersOf = ({ containers, initContainers = [] }: PodSpec): Container[] => [
  ...initContainers,
  ...containers,
]

/** The templates of all pods, by the name of what starts them. */
export const pods: readonly (readonly [name: string, pod: PodSpec])[] = manifests
  .filter(({ kind }) => kind === 'StatefulSet')
  .map(({ metadata, spec }) => [metadata.name, spec!.template.spec])

/** The bytes of a size as Kubernetes (`16Gi`) or redis.conf (`8gb`) writes it. */
export function bytesOf(size: string): number {
  const [, amount, unit] = /^(\d+)(mb|gb|Mi|Gi)$/.exec(size) ?? []
  return Number(amount) * 1024 ** (unit!.toLowerCase().startsWith('m') ? 2 : 3)
}
