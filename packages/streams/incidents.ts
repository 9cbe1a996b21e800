/**
 * Incidents: everything that may have lost or delayed data, kept durably until an operator has seen it. They are in one
 * capped Redis stream: each daemon can write there, and no other data of Sluice expires silently.
 */
import { classified, type Redis } from './connection.ts'
import { runScript, scripts } from './scripts.ts'

export const INCIDENTS_STREAM = 'sluice:incidents'
const INCIDENTS_MAX = 10_000

/**
 * `outdated-cursor`: the relay no longer had events that we had not read yet. `future-cursor`: a relay says that our
 * cursor lies ahead of it. `group-lost`: a stream or group vanished. `cursor-behind`: Redis came back older than it
 * was. `dead-letters`: entries were given up. `redis-settings`: with its settings Redis may lose data. `consumer-died`:
 * entries of a dead consumer were taken over.
 */
const INCIDENT_KINDS = [
  'outdated-cursor',
  'future-cursor',
  'group-lost',
  'cursor-behind',
  'dead-letters',
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

/** Stores an incident. @throws TransientError */
export async function recordIncident(redis: Redis, incident: Incident): Promise<void> {
  const { kind, role, what, action } = incident
  const fields = ['kind', kind, 'role', role, 'what', what, 'action', action]
  await classified(runScript(redis, scripts.incident, [INCIDENTS_STREAM], [String(INCIDENTS_MAX), ...fields]))
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
