/** The consumers of a group, and which of them live. */
import { classified, classifyRedisError, type Redis } from '@sluice/streams/connection.ts'
import { leaseKey } from '@sluice/streams/lease.ts'
import type { Reading } from './config.ts'

export interface Holder {
  consumer: string
  pending: number
  idleSeconds: number
  /** Host and pid; undefined: no process of ours lives under this name. */
  process: string | undefined
}

/** Whether the stream has this group. @throws TransientError */
export async function hasGroup(redis: Redis, stream: string, group: string): Promise<boolean> {
  if ((await classified(redis.exists(stream))) === 0) return false
  return (await classified(redis.xInfoGroups(stream))).some(({ name }) => name === group)
}

/** A process that lives under a consumer's name. */
export interface Lease {
  stream: string
  group: string
  consumer: string
  /** Host and pid. */
  process: string
}

const SCAN_KEYS = 1_000

/**
 * Every living consumer. Asked for by the leases, since Redis 7.0 does not list a consumer that waits and was never handed anything.
 * @throws TransientError
 */
export async function livingConsumers(redis: Redis, readings: readonly Reading[]): Promise<Lease[]> {
  try {
    const found: Lease[] = []
    for await (const keys of redis.scanIterator({ MATCH: '*:lease:*', COUNT: SCAN_KEYS, TYPE: 'hash' })) {
      for (const key of new Set(keys)) {
        const reading = readings.find(({ stream, group }) => key.startsWith(leaseKey({ stream, group, consumer: '' })))
        const process = reading && (await redis.hGet(key, 'details'))
        if (!reading || process === null || process === undefined) continue
        const { stream, group } = reading
        const consumer = key.slice(leaseKey({ stream, group, consumer: '' }).length)
        if (!found.some((lease) => lease.stream === stream && lease.consumer === consumer)) {
          found.push({ stream, group, consumer, process })
        }
      }
    }
    return found
  } catch (error) {
    throw classifyRedisError(error)
  }
}

/** Those who ever read, and those who wait; none when there is no such group. @throws TransientError */
export async function holdersOf(redis: Redis, reading: Reading): Promise<Holder[]> {
  const { stream, group } = reading
  if (!(await hasGroup(redis, stream, group))) return []
  const living = new Map((await livingConsumers(redis, [reading])).map((lease) => [lease.consumer, lease.process]))
  const known = (await classified(redis.xInfoConsumers(stream, group))).map(({ name, pending, idle }): Holder => {
    const process = living.get(name)
    living.delete(name)
    return { consumer: name, pending, idleSeconds: idle / 1_000, process }
  })
  return [...known, ...[...living].map(([consumer, process]) => ({ consumer, pending: 0, idleSeconds: 0, process }))]
}
