/**
 * Incidents: everything that may have lost or delayed data, kept durably until an operator has seen it. They are in one
 * capped Redis stream: each daemon can write there, and no other data of Sluice expires silently. Each daemon also
 * counts those that it stored, for alerts.
 */
import type { Metrics } from '@sluice/runtime/metrics.ts'
import { classified, type Redis } from './connection.ts'
import { runScript, scripts } from './scripts.ts'

export const INCIDENTS_STREAM = 'sluice:incidents'
const INCIDENTS_MAX = 10_000

/**
 * `outdated-cursor`: the relay no longer had events that we had not read yet. `future-cursor`: a relay says that our
 * cursor lies ahead of it. `group-lost`: a stream or group vanished. `cursor-behind`: Redis came back older than it
 * was. `database-promoted`: PostgreSQL may have come back older than it was. `dead-letters`: entries were given up.
 * `phantom-entries`: somebody deleted entries that were not acked. `resync-storm`: the limit turned most of very many
 * resyncs away. `redis-settings`: with its settings Redis may lose data. `consumer-died`: entries of a dead consumer
 * were taken over.
 */
const INCIDENT_KINDS = [
  'outdated-cursor',
  'future-cursor',
  'group-lost',
  'cursor-behind',
  'database-promoted',
  'dead-letters',
  'phantom-entries',
  'resync-storm',
  'redis-settings',
  'consumer-died',
] as const
export type IncidentKind = (typeof INCIDENT_KINDS)[number]

export interface Incident {
  kind: IncidentKind
  /** Role and consumer, e.g. `indexer one`. */
  role: string
  /** What happened, and to which stream or host. */
  what: string
  /** What was done about it, or what the operator should do. */
  action: string
}

export interface RecordedIncident extends Incident {
  id: string
  time: string
}

export type CountIncident = (kind: IncidentKind) => void

/** Declares the counter of incidents, which every role that records some has; call once per process. */
export function countIncidents(metrics: Metrics): CountIncident {
  const incidents = metrics.counter({
    name: 'sluice_incidents_total',
    help: 'Incidents that this process stored: what may have lost or delayed data. What happened and what was done about it: `sluice incidents list`.',
    labels: { kind: INCIDENT_KINDS },
  })
  return (kind) => incidents.inc(1, { kind })
}

/** Stores an incident, and then counts it. @throws TransientError; then it is not counted */
export async function recordIncident(redis: Redis, incident: Incident, count?: CountIncident): Promise<void> {
  const { kind, role, what, action } = incident
  const fields = ['kind', kind, 'role', role, 'what', what, 'action', action]
  await classified(runScript(redis, scripts.incident, [INCIDENTS_STREAM], [String(INCIDENTS_MAX), ...fields]))
  count?.(kind)
}

/** The newest incidents first. @throws TransientError */
export async function listIncidents(redis: Redis, count: number): Promise<RecordedIncident[]> {
  const entries = await classified(redis.xRevRange(INCIDENTS_STREAM, '+', '-', { COUNT: count }))
  return (entries ?? []).map(({ id, message }) => ({
    id,
    time: new Date(Number(id.split('-')[0])).toISOString(),
    kind: (message.kind ?? 'group-lost') as IncidentKind,
    role: message.role ?? '',
    what: message.what ?? '',
    action: message.action ?? '',
  }))
}
