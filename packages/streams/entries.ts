/**
 * Entries as Redis hands them out, and the commands that take and give back entries for one consumer of a group.
 *
 * Everything uses commands of Redis 7.0; commands that must happen together are in a script. Newer servers have single
 * commands for some of it (XACKDEL, XREADGROUP CLAIM, XNACK of Redis 8; Valkey has none of them). They would save a
 * script call, but would promise nothing more, and would add a second path through each fault that has to be proven
 * again.
 */
import type { EntryFields } from '@sluice/events/codec.ts'
import { classified, classifyRedisError, type Redis } from './connection.ts'
import { leaseKey } from './lease.ts'
import { runScript, scripts } from './scripts.ts'

export interface Entry {
  id: string
  fields: EntryFields
}

export interface Delivered extends Entry {
  /** How often the entry was handed out, to any consumer. */
  deliveries: number
}

export interface GroupAddress {
  stream: string
  group: string
  consumer: string
}

/** An entry in a reply: its id and its fields, flat. */
export type EntryReply = [id: string, fields: string[]]

/**
 * Makes the group, from the beginning of the stream; makes the stream too when it is absent. Returns whether the group
 * was missing.
 */
export async function ensureGroup(redis: Redis, { stream, group }: GroupAddress): Promise<boolean> {
  return (await classified(runScript(redis, scripts.group, [stream], [group]))) === 1
}

/**
 * Reads new entries, at most `count`; waits for the first one up to `blockMs`, if given. When this fails, Redis may
 * have delivered entries whose answer did not arrive: they are pending under our name.
 */
export async function readNew(redis: Redis, a: GroupAddress, count: number, blockMs?: number): Promise<Entry[]> {
  const limits = ['COUNT', String(count), ...(blockMs === undefined ? [] : ['BLOCK', String(blockMs)])]
  const command = ['XREADGROUP', 'GROUP', a.group, a.consumer, ...limits, 'STREAMS', a.stream, '>']
  // `xReadGroup` would first make objects of another shape: 1.2 µs an entry instead of 1.05.
  const reply = await classified(redis.sendCommand<Record<string, EntryReply[]> | null>(command))
  return reply === null ? [] : Object.values(reply).flat().map(toEntry)
}

export function toEntry([id, flat]: EntryReply): Entry {
  const fields: EntryFields = {}
  for (let i = 0; i < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
  return { id, fields }
}

/** XACK + XDEL in one step. Returns how many of the entries were pending. */
export async function ack(redis: Redis, a: GroupAddress, ids: readonly string[]): Promise<number> {
  if (ids.length === 0) return 0
  return Number(await classified(runScript(redis, scripts.ack, [a.stream], [a.group, ...ids])))
}

/**
 * Removes consumers that have nothing pending, have been idle for `idleMs`, and whose name has no lease. The lease is
 * needed because Redis 7.0 counts a consumer that waits for entries as idle. Returns the names of the removed
 * consumers.
 */
export async function retireConsumers(redis: Redis, a: GroupAddress, idleMs: number): Promise<string[]> {
  try {
    const consumers = await redis.xInfoConsumers(a.stream, a.group)
    const gone = consumers.filter((c) => c.name !== a.consumer && c.pending === 0 && c.idle > idleMs)
    const retired = []
    for (const { name } of gone) {
      if ((await redis.exists(leaseKey({ ...a, consumer: name }))) === 1) continue
      if ((await runScript(redis, scripts.retire, [a.stream], [a.group, name])) === 1) retired.push(name)
    }
    return retired
  } catch (error) {
    throw classifyRedisError(error)
  }
}
