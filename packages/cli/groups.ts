/** The consumers of a group, and which of them are alive. */
import { classified, classifyRedisError, type Redis } from '@sluice/streams/connection.ts'
import { leaseKey } from '@sluice/streams/lease.ts'
import type { Reading } from './config.ts'

export interface Holder {
  consumer: string
  pending: number
  idleSeconds: number
  /** Host and pid; undefined: no living process of Sluice has this name. */
  process: string | undefined
}

/** Whether the stream has this group. @throws TransientError */
export async function hasGroup(redis: Redis, stream: string, group: string): Promise<boolean> {
  if ((await classified(redis.exists(stream))) === 0) return false
  return (await classified(redis.xInfoGroups(stream))).some(({ name }) => name === group)
}

const SCAN_KEYS = 1_000

/**
 * The group's living consumers, each with its process. They are found by their leases, because Redis 7.0 does not list
 * a consumer that waits and never got an entry.
 */
async function livingConsumers(redis: Redis, { stream, group }: Reading): Promise<Map<string, string>> {
  const prefix = leaseKey({ stream, group, consumer: '' })
  const living = new Map<string, string>()
  try {
    for await (const keys of redis.scanIterator({ MATCH: '*:lease:*', COUNT: SCAN_KEYS, TYPE: 'hash' })) {
      for (const key of keys.filter((name) => name.startsWith(prefix))) {
        const process = await redis.hGet(key, 'details')
        if (process !== null) living.set(key.slice(prefix.length), process)
      }
    }
  } catch (error) {
    throw classifyRedisError(error)
  }
  return living
}

/**
 * Consumers that have ever read, and living ones that wait for their first entry; none when there is no such group.
 * @throws TransientError
 */
export async function holdersOf(redis: Redis, reading: Reading): Promise<Holder[]> {
  const { stream, group } = reading
  if (!(await hasGroup(redis, stream, group))) return []
  const living = await livingConsumers(redis, reading)
  const known = (await classified(redis.xInfoConsumers(stream, group))).map(({ name, pending, idle }): Holder => {
    const process = living.get(name)
    living.delete(name)
    return { consumer: name, pending, idleSeconds: idle / 1_000, process }
  })
  return [...known, ...[...living].map(([consumer, process]) => ({ consumer, pending: 0, idleSeconds: 0, process }))]
}
