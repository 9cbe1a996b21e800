/** The state of the daemons, as they report it over HTTP: /health, /ready and the metrics that show trouble. */
import { describeError } from '@sluice/runtime/errors.ts'

export interface DaemonState {
  url: string
  /** Why no daemon of Sluice answers at this URL. */
  silent?: string
  role?: string
  build?: string
  uptimeSeconds?: number
  ready?: boolean
  /** Why the daemon is not ready. */
  reasons?: string[]
  metrics?: Metric[]
}

export interface Metric {
  name: string
  labels: Record<string, string>
  value: number
}

const ANSWER_MS = 3_000

/**
 * Asks the daemons at these URLs; never throws. A URL that the operator did not name is left out when no daemon answers
 * there.
 */
export async function inspectDaemons({
  urls,
  named,
}: {
  urls: readonly string[]
  named: boolean
}): Promise<DaemonState[]> {
  const found = await Promise.all(urls.map(async (url) => inspectDaemon(url.replace(/\/$/, ''))))
  // Any program may listen on our default ports; only a daemon of Sluice reports a role and a build.
  return named ? found : found.filter(({ role, build }) => role !== undefined && build !== undefined)
}

async function inspectDaemon(url: string): Promise<DaemonState> {
  try {
    // First one question alone. Each question looks the name up again, and one that no name server answers, such as that
    // of a container that is stopped, would hold three places among those that look up names, instead of one
    // (lookup-places.ts).
    const health = await get(`${url}/health`)
    const [ready, metrics] = await Promise.all(['/ready', '/metrics'].map((path) => get(url + path)))
    const { role, build, uptimeSeconds } = JSON.parse(health) as Pick<DaemonState, 'role' | 'build' | 'uptimeSeconds'>
    const { ready: isReady, reasons = [] } = JSON.parse(ready!) as { ready: boolean; reasons?: unknown[] }
    return {
      url,
      ...(role !== undefined && { role }),
      ...(build !== undefined && { build }),
      ...(uptimeSeconds !== undefined && { uptimeSeconds }),
      ready: isReady,
      reasons: reasons.map((reason) => (typeof reason === 'string' ? reason : JSON.stringify(reason))),
      metrics: readMetrics(metrics!),
    }
  } catch (error) {
    return { url, silent: whySilent(error) }
  }
}

function whySilent(error: unknown): string {
  if (error instanceof SyntaxError) return 'it answers, and is no daemon of ours'
  if (error instanceof Error && error.name === 'TimeoutError') return `no answer within ${ANSWER_MS / 1_000} s`
  return describeError(error)
}

async function get(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) })
  return response.text()
}

/** The series of Sluice in a text of Prometheus' format. */
export function readMetrics(text: string): Metric[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(sluice_\w+)(?:\{(.*)\})? (\S+)/.exec(line)
    if (!match) return []
    const labels = [...(match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, value]) => [key!, value!])
    return { name: match[1]!, labels: Object.fromEntries(labels) as Record<string, string>, value: Number(match[3]) }
  })
}

/** The ingesters that append nothing to the stream now, because it or Redis is full; `by` tells which of the two. */
export function heldBack(daemons: readonly DaemonState[], stream: string): { url: string; by: string }[] {
  return valuesOf(daemons, 'sluice_ingester_backpressure')
    .filter(({ labels, value }) => labels.stream === stream && value === 1)
    .map(({ url, labels }) => ({ url, by: labels.by ?? '' }))
}

/** The values of one metric over all daemons. */
export function valuesOf(daemons: readonly DaemonState[], name: string): (Metric & { url: string })[] {
  return daemons.flatMap(({ url, metrics = [] }) => metrics.filter((m) => m.name === name).map((m) => ({ ...m, url })))
}
