/**
 * What `inspect` of packages/streams leaves out: clocks, speeds, which of our processes are connected, and which hosts
 * make the backfill wait.
 */
import { hostKey, priorityStream, setAsideKey, slotsKey } from '@sluice/streams/backfill-queue.ts'
import { classified, classifyRedisError, redisTimeMs, type Redis } from '@sluice/streams/connection.ts'
import { measureRoundTrip, type RoundTrip } from './round-trip.ts'

export interface ClientState {
  /** `sluice-indexer-one-firehose_live`, `sluice-backfiller-one-main`, `sluice-ingester-all`. */
  name: string
  address: string
  ageSeconds: number
}

export interface RedisConnection extends RoundTrip {
  /** Connections of our daemons; undefined: the server does not tell (CLIENT LIST is forbidden). */
  clients: ClientState[] | undefined
}

/** @throws TransientError, FatalError */
export async function inspectConnection(redis: Redis): Promise<RedisConnection> {
  try {
    const roundTrip = await measureRoundTrip(() => redisTimeMs(redis))
    const list = await redis.sendCommand<string>(['CLIENT', 'LIST']).catch(() => undefined)
    const ownId = await redis.clientId()
    return {
      ...roundTrip,
      clients: list === undefined ? undefined : readClients(list, ownId),
    }
  } catch (error) {
    throw classifyRedisError(error)
  }
}

const OURS = /^sluice-(ingester|indexer|backfiller)-/

/**
 * The connections of our daemons in the text of CLIENT LIST.
 * @param ownId the id of a connection that is led to the database of the daemons: another database of the same server
 *   may have daemons of another pipeline. Default: those of all databases
 */
export function readClients(list: string, ownId?: number): ClientState[] {
  const clients = list.split('\n').map((line) => {
    return new Map([...line.matchAll(/(\S+?)=(\S*)/g)].map(([, name, value]) => [name!, value!]))
  })
  const own = clients.find((fields) => fields.get('id') === String(ownId))
  return clients.flatMap((fields) => {
    const name = fields.get('name') ?? ''
    if (!OURS.test(name) || (own && own.get('db') !== fields.get('db'))) return []
    return { name, address: fields.get('addr') ?? '', ageSeconds: Number(fields.get('age') ?? 0) }
  })
}

/** How many entries came and went since the stream was made. The difference of two of these gives a rate. */
export interface Traffic {
  atMs: number
  streams: Map<string, { added: number; gone: number }>
}

/** Streams that do not exist are left out. @throws TransientError, FatalError */
export async function readTraffic(redis: Redis, streams: readonly string[]): Promise<Traffic> {
  try {
    const infos = await Promise.all(streams.map(async (stream) => redis.xInfoStream(stream).catch(() => undefined)))
    const found = infos.flatMap((info, i): [string, { added: number; gone: number }][] => {
      if (info === undefined) return []
      const fields = info as unknown as Record<string, number>
      const added = fields['entries-added'] ?? 0
      return [[streams[i]!, { added, gone: added - (fields.length ?? 0) }]]
    })
    return { atMs: performance.now(), streams: new Map(found) }
  } catch (error) {
    throw classifyRedisError(error)
  }
}

export interface HostState {
  host: string
  /** Requests under way. */
  underWay: number
  /** Seconds until the host may be asked again; 0: now. */
  parkedSeconds: number
  /** Failures in a row. */
  failures: number
  /** For how many seconds the host has given hardly any answer but 429; 0: it gives others. */
  limitedSeconds: number
}

const SCAN_KEYS = 1_000
const HOSTS_MAX = 5_000

/** The hosts from which repositories were fetched, those in trouble first. `HOSTS_MAX` of them are read. */
export async function inspectHosts(redis: Redis, stream: string): Promise<HostState[]> {
  try {
    const hosts: string[] = []
    const prefix = hostKey(stream, '')
    for await (const keys of redis.scanIterator({ MATCH: `${prefix}*`, COUNT: SCAN_KEYS, TYPE: 'hash' })) {
      hosts.push(...keys.map((key) => key.slice(prefix.length)))
      if (hosts.length >= HOSTS_MAX) break
    }
    const nowMs = Date.now()
    const states = await Promise.all(
      [...new Set(hosts)].map(async (host): Promise<HostState> => {
        const [fields, underWay] = await Promise.all([
          redis.hmGet(hostKey(stream, host), ['parkedUntil', 'failures', 'limitedSince']),
          redis.zCount(slotsKey(stream, host), nowMs, '+inf'),
        ])
        const parkedSeconds = Math.max(0, Number(fields[0] ?? 0) - nowMs) / 1_000
        const limitedSeconds = Math.max(0, nowMs - Number(fields[2] ?? nowMs)) / 1_000
        return { host, underWay, parkedSeconds, failures: Number(fields[1] ?? 0), limitedSeconds }
      }),
    )
    return states.toSorted(
      (a, b) => troubleSeconds(b) - troubleSeconds(a) || b.failures - a.failures || b.underWay - a.underWay,
    )
  } catch (error) {
    throw classifyRedisError(error)
  }
}

function troubleSeconds({ parkedSeconds, limitedSeconds }: HostState): number {
  return Math.max(parkedSeconds, limitedSeconds)
}

/**
 * Repositories that were given up without a dead letter, since their owner has too many of these: host and reason → how
 * many.
 */
export async function inspectSetAside(redis: Redis, stream: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const queue of [stream, priorityStream(stream)]) {
    const fields = await classified(redis.hGetAll(setAsideKey(queue)))
    for (const [name, count] of Object.entries(fields)) counts[name] = (counts[name] ?? 0) + Number(count)
  }
  return counts
}
