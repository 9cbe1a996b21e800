/**
 * Everything about Redis that an operator wants to know, in one call: streams, groups and consumers, dead letters,
 * cursors, the backfill queue, incidents, and the settings and health of the server. It only reads, and touches nothing
 * that a daemon waits for.
 *
 * It has no opinion: the caller decides what is too old or too much.
 */
import { hostsKey, priorityStream, retryKey } from './backfill-queue.ts'
import { classifyRedisError, redisTimeMs, type Redis } from './connection.ts'
import { INGESTER_DONE, timeKey } from './cursors.ts'
import { INCIDENTS_STREAM, listIncidents, type RecordedIncident } from './incidents.ts'
import { serverState, type ServerState } from './redis-settings.ts'
import { streamState, type StreamState } from './stream-state.ts'

export interface InspectOptions {
  /** Default: `STREAMS`, and the priority stream of the backfill queue. */
  streams?: readonly string[]
  /** The stream whose retries are counted. */
  backfillStream?: string
  /** How many of the newest incidents to return in full. */
  incidents?: number
}

export interface Inspection {
  /** When this was read, by the clock of Redis (ISO 8601). */
  time: string
  server: ServerState
  streams: StreamState[]
  cursors: CursorState[]
  backfill: BackfillQueueState
  incidents: { total: number; newest: RecordedIncident[] }
}

export interface CursorState {
  stream: string
  host: string
  cursor: string
  /**
   * The age of the event at the cursor, by the time that its host gives; undefined for an enumeration, or when nothing
   * was read yet.
   */
  ageSeconds?: number
  /** Whether this is an enumeration that has seen its last page. */
  isDone: boolean
}

export interface BackfillQueueState {
  stream: string
  /** Entries in the stream, and in its priority stream; entries in work are included. */
  normal: number
  priority: number
  /** Entries of both streams that wait for a retry: not due yet, or due and not yet moved back. */
  retries: number
  /** Retries that are due already. When there are more than a few, no backfiller runs. */
  overdue: number
  /** Seconds until the next retry is due; undefined when none waits. */
  nextRetrySeconds?: number
  /** Hosts of which a try has ended within 30 days (see backfill-queue.ts). */
  hosts: number
}

const STREAMS = ['firehose_live', 'firehose_backfill', 'repo_backfill', 'label_live'] as const

const CURSOR = ':cursor:'
const INCIDENTS_SHOWN = 20
/**
 * Keys that Redis looks at in one step, which takes some 100 µs. With a million keys of chains and identities the whole
 * scan takes half a second.
 */
const SCAN_KEYS = 1_000

/** @throws TransientError, FatalError, as for any command */
export async function inspect(redis: Redis, options: InspectOptions = {}): Promise<Inspection> {
  const { backfillStream = 'repo_backfill', incidents = INCIDENTS_SHOWN } = options
  const streams = options.streams ?? [...STREAMS, priorityStream(backfillStream)]
  try {
    const [now, keys] = await Promise.all([redisTimeMs(redis), smallKeys(redis)])
    const looking = { redis, now, leases: keys.filter((key) => key.includes(':lease:')) }
    const [server, states, cursors, backfill, total, newest] = await Promise.all([
      serverState(redis),
      Promise.all(streams.map((stream) => streamState(stream, looking))),
      readCursors(
        redis,
        keys.filter((key) => key.includes(CURSOR)),
        now,
      ),
      backfillQueue(redis, backfillStream, now),
      redis.xLen(INCIDENTS_STREAM),
      listIncidents(redis, incidents),
    ])
    const time = new Date(now).toISOString()
    return { time, server, streams: states, cursors, backfill, incidents: { total, newest } }
  } catch (error) {
    throw classifyRedisError(error)
  }
}

/**
 * The keys of cursors and leases, with few others. They are found in one pass over all keys, since there are millions
 * of other keys.
 */
async function smallKeys(redis: Redis): Promise<string[]> {
  // SCAN may name a key twice.
  const found = new Set<string>()
  for await (const keys of redis.scanIterator({ MATCH: '*:[cl][ue]*:*', COUNT: SCAN_KEYS })) {
    for (const key of keys) found.add(key)
  }
  return [...found].toSorted()
}

/** The cursors of all hosts, configured or not: a host that was taken out of the configuration still has its cursor. */
async function readCursors(redis: Redis, keys: string[], now: number): Promise<CursorState[]> {
  if (keys.length === 0) return []
  const places = keys.map((key) => {
    const at = key.indexOf(CURSOR)
    return { stream: key.slice(0, at), host: key.slice(at + CURSOR.length) }
  })
  const [cursors, times] = await Promise.all([
    redis.mGet(keys),
    redis.mGet(places.map(({ stream, host }) => timeKey(stream, host))),
  ])
  return places.flatMap((place, i): CursorState[] => {
    const cursor = cursors[i]
    if (typeof cursor !== 'string') return []
    const eventMs = Date.parse(times[i] ?? '')
    const age = Number.isNaN(eventMs) ? {} : { ageSeconds: Math.max(0, now - eventMs) / 1_000 }
    return [{ ...place, cursor, ...age, isDone: cursor === INGESTER_DONE }]
  })
}

async function backfillQueue(redis: Redis, stream: string, now: number): Promise<BackfillQueueState> {
  const priority = priorityStream(stream)
  const schedules = [retryKey(stream), retryKey(priority)]
  const [lengths, sizes, due, firsts, hosts] = await Promise.all([
    Promise.all([stream, priority].map((name) => redis.xLen(name))),
    Promise.all(schedules.map((key) => redis.zCard(key))),
    Promise.all(schedules.map((key) => redis.zCount(key, '-inf', now))),
    Promise.all(schedules.map((key) => redis.zRangeWithScores(key, 0, 0))),
    redis.zCard(hostsKey(stream)),
  ])
  const next = Math.min(...firsts.flat().map(({ score }) => score))
  return {
    stream,
    normal: lengths[0]!,
    priority: lengths[1]!,
    retries: sum(sizes),
    overdue: sum(due),
    ...(Number.isFinite(next) && { nextRetrySeconds: Math.max(0, next - now) / 1_000 }),
    hosts,
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0)
